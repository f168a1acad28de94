package watchdog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rescue6/rescue/link"
)

// kernel is a link that a test breaks and the watchdog mends.
type kernel struct {
	link    link.Link
	listErr error
	applied []time.Duration // when, since the start
	began   time.Time
	apply   func(*link.Link, Repair) error

	stuck []time.Duration // what Stuck was told

	mu sync.Mutex // of all that changes
}

func (k *kernel) run(t *testing.T) (*Journal, chan<- struct{}) {
	t.Helper()
	k.began = time.Now()
	wakes := make(chan struct{})
	j := NewJournal()
	w := New(Config{
		Policy: Policy{Label: label},
		List: func() ([]link.Link, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return []link.Link{k.link}, k.listErr
		},
		Watch: func(ctx context.Context, wake chan<- struct{}) error {
			for {
				select {
				case <-wakes:
					wake <- struct{}{}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
		Apply: func(r Repair) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.applied = append(k.applied, time.Since(k.began))
			if k.apply == nil {
				return nil
			}
			return k.apply(&k.link, r)
		},
		Changed: func([]link.Link) {},
		Stuck: func(_ link.Link, fault string, lasts time.Duration) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.stuck = append(k.stuck, lasts)
		},
		Journal: j, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
	return j, wakes
}

// set changes the kernel's state.
func (k *kernel) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// attempts is how many repairs were tried.
func (k *kernel) attempts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.applied)
}

func TestIncidentIsRepairedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{link: good(), apply: func(l *link.Link, r Repair) error {
			l.Up, l.Carrier = true, true
			return nil
		}}
		j, wake := k.run(t)
		k.set(func() { k.link.Up, k.link.Carrier = false, false })
		wake <- struct{}{}
		synctest.Wait()
		wake <- struct{}{} // the kernel tells of the repair, too
		synctest.Wait()
		all := j.Incidents()
		if len(all) != 1 || !all[0].Recovered || all[0].Repairs != 1 || all[0].Fault != "link is down" || all[0].Link != "eth0" {
			t.Errorf("incidents: %+v", all)
		}
	})
}

// What a link lacks when it first appears is set up, and no incident.
func TestSetUpIsNoIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{link: with(good(), func(l *link.Link) { l.Up = false }), apply: func(l *link.Link, r Repair) error {
			l.Up = true
			return nil
		}}
		j, _ := k.run(t)
		if all := j.Incidents(); k.attempts() != 1 || len(all) != 0 {
			t.Errorf("%d repairs and %d incidents, want 1 and 0", k.attempts(), len(all))
		}
	})
}

// A repair that does not help is tried for ever, five seconds apart at the most,
// also when the kernel wakes us all the time.
func TestNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{link: with(good(), func(l *link.Link) { l.IPv6Disabled = true }),
			apply: func(*link.Link, Repair) error { return errors.New("read-only file system") }}
		_, wake := k.run(t)
		for range 1000 {
			wake <- struct{}{}
			time.Sleep(time.Millisecond)
		}
		if n := k.attempts(); n > 5 {
			t.Errorf("%d attempts in the first second, want a few", n)
		}
		time.Sleep(time.Hour)
		before := k.attempts()
		time.Sleep(time.Minute)
		if n := k.attempts() - before; n != 12 {
			t.Errorf("%d attempts a minute after an hour, want 12", n)
		}
	})
}

// A repair that does not help for half a minute is told of; what a neighbour claims
// never is.
func TestStuck(t *testing.T) {
	for name, tt := range map[string]struct {
		first, then link.Link
		told        bool
	}{
		"read-only sysctl":   {good(), with(good(), func(l *link.Link) { l.IPv6Disabled = true }), true},
		"it never worked":    {with(good(), func(l *link.Link) { l.IPv6Disabled = true }), with(good(), func(l *link.Link) { l.IPv6Disabled = true }), false},
		"claimed":            {good(), with(good(), func(l *link.Link) { l.IPv6 = []link.Address{addr(eui64), failed(label)} }), false},
		"everything claimed": {good(), with(good(), func(l *link.Link) { l.IPv6 = []link.Address{failed(eui64), failed(label)} }), false},
		"no carrier":         {good(), with(good(), func(l *link.Link) { l.Carrier = false }), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kernel{link: tt.first, apply: func(*link.Link, Repair) error { return errors.New("read-only file system") }}
				_, wake := k.run(t)
				k.set(func() { k.link = tt.then })
				wake <- struct{}{}
				synctest.Wait()
				time.Sleep(bounceAfter - time.Second)
				k.set(func() {
					if len(k.stuck) > 0 {
						t.Errorf("told after %v", k.stuck[0])
					}
				})
				time.Sleep(time.Minute)
				k.set(func() {
					if (len(k.stuck) > 0) != tt.told {
						t.Errorf("told: %v, want %t", k.stuck, tt.told)
					}
				})
			})
		})
	}
}

// A label address whose DAD fails again and again is one incident, not one for
// each attempt, and the neighbour is asked once a minute.
func TestClaimedLabelIsOneIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{link: good()}
		asked := 0
		k.apply = func(l *link.Link, r Repair) error {
			if r.Action == DeleteAddress {
				l.IPv6 = []link.Address{addr(eui64)}
				return nil
			}
			asked++
			l.IPv6 = []link.Address{addr(eui64), tentative(label)}
			time.AfterFunc(time.Second, func() { k.set(func() { l.IPv6 = []link.Address{addr(eui64), failed(label)} }) })
			return nil
		}
		j, wake := k.run(t)
		k.set(func() { k.link.IPv6 = []link.Address{addr(eui64), failed(label)} })
		wake <- struct{}{}
		time.Sleep(time.Hour)
		if all := j.Incidents(); len(all) != 1 || all[0].Recovered {
			t.Errorf("incidents: %+v, want one that lasts", all)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if n := asked; n < 50 || n > 80 {
			t.Errorf("%d attempts in an hour, want about one a minute", n)
		}
	})
}

// An error of List, with or without a partial view, ends neither the loop nor an
// incident.
func TestPartialViewEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{link: good()}
		j, wake := k.run(t)
		k.set(func() { k.link.IPv6Disabled = true })
		wake <- struct{}{}
		synctest.Wait()
		k.set(func() { k.link.IPv6Disabled, k.listErr = false, errors.New("dump interrupted") })
		wake <- struct{}{}
		synctest.Wait()
		if all := j.Incidents(); len(all) != 1 || all[0].Recovered {
			t.Errorf("with a partial view: %+v", all)
		}
		k.set(func() { k.listErr = nil })
		time.Sleep(pollEvery) // nobody wakes it: the timer does
		synctest.Wait()
		if all := j.Incidents(); len(all) != 1 || !all[0].Recovered {
			t.Errorf("with the whole view: %+v", all)
		}
	})
}

func TestJournalIsBounded(t *testing.T) {
	j := NewJournal()
	for i := range 10 * maxIncidents {
		j.begin(key{index: i, fault: "link is down"}, "eth0", time.Now())
	}
	if n := len(j.Incidents()); n != maxIncidents {
		t.Errorf("%d incidents, want %d", n, maxIncidents)
	}
}
