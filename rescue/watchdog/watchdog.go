package watchdog

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"rescue6/rescue/link"
)

// The times of the loop. The pause between attempts at the same repair doubles
// from minBackoff to maxBackoff; an address that a neighbour claims is asked for
// again at claimBackoff only, as long as another works.
const (
	pollEvery    = 10 * time.Second
	minBackoff   = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	claimBackoff = 60 * time.Second
)

// Config is what a Watchdog needs. The functions stand for the kernel.
type Config struct {
	Policy  Policy
	List    func() ([]link.Link, error)
	Watch   func(ctx context.Context, wake chan<- struct{}) error
	Apply   func(Repair) error
	Changed func([]link.Link) // called with each whole state that was read
	// Stuck is told of a link that worked before and whose repairs have not helped for
	// a while, again and again; it may be nil.
	Stuck   func(l link.Link, fault string, lasts time.Duration)
	Journal *Journal
	Log     *slog.Logger
}

// Watchdog is the loop that reconciles links.
type Watchdog struct {
	cfg     Config
	settled map[int]link.Link // links on which all was well, as they were then, by index
	lost    map[int]lost      // settled links that have left, by index
	claimed map[place]claim   // addresses that a neighbour has
	tries   map[key]*attempt  // repairs under way
	lastErr string            // of List, to say it once
}

// attempt is the state of a repair that did not help yet.
type attempt struct {
	first time.Time
	pause time.Duration
	next  time.Time
}

// lost is a link that was served and is no more: unplugged, or taken by another.
type lost struct {
	fault  string
	last   link.Link
	master int // who has taken it, 0 if it is gone
}

// place is an address on a link.
type place struct {
	index int
	addr  netip.Addr
}

// claim is a neighbour's claim to an address of ours: it is asked for again later.
type claim struct {
	fault string
	until time.Time
}

// New returns a watchdog. It starts nothing.
func New(cfg Config) *Watchdog {
	return &Watchdog{cfg: cfg, settled: map[int]link.Link{}, lost: map[int]lost{}, claimed: map[place]claim{}, tries: map[key]*attempt{}}
}

// Run reconciles until ctx ends. No error ends it.
func (w *Watchdog) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.cfg.Watch(ctx, wake); err != nil && ctx.Err() == nil {
			w.cfg.Log.Error("watching links: only the timer is left", "err", err)
		}
	}()
	defer func() { <-done }()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-timer.C:
		}
		timer.Reset(w.reconcile(time.Now()))
	}
}

// reconcile reads the whole state, repairs what is due, and returns when to look
// again at the latest.
func (w *Watchdog) reconcile(now time.Time) time.Duration {
	links, err := w.cfg.List()
	w.noteList(err)
	if len(links) == 0 && err != nil {
		return maxBackoff
	}
	wanted := map[key]bool{}
	present := map[int]bool{}
	pending := map[int]bool{}
	wait := pollEvery
	for _, l := range links {
		present[l.Index] = true
		if ok, _ := w.cfg.Policy.Serves(l); !ok {
			if l.Master != 0 {
				w.lose(l.Index, "link became a port of another", l.Master, now)
			}
			delete(w.settled, l.Index)
			continue
		}
		plan := w.cfg.Policy.Plan(l)
		for _, r := range plan {
			k := key{index: r.Index, fault: r.Fault}
			c, isClaimed := w.claimed[place{r.Index, r.Addr}]
			switch {
			case r.Action == DeleteAddress:
				if len(w.claimed) >= maxIncidents { // of links that have gone
					clear(w.claimed)
				}
				w.claimed[place{r.Index, r.Addr}] = claim{r.Fault, now.Add(claimBackoff)}
			case r.Action == AddAddress && isClaimed:
				wanted[key{index: r.Index, fault: c.fault}] = true
				if left := c.until.Sub(now); left > 0 {
					wait = min(wait, left)
					continue
				}
				delete(w.claimed, place{r.Index, r.Addr})
				if err := w.cfg.Apply(r); err != nil {
					w.cfg.Log.Info("asking for a claimed address again", "link", r.Name, "addr", r.Addr, "err", err)
				}
				continue
			}
			wanted[k] = true
			wait = min(wait, w.repair(k, r, now))
			w.escalate(l, r, now.Sub(w.tries[k].first))
		}
		pending[l.Index] = l.Carrier && w.cfg.Policy.pending(l)
		_, settled := w.settled[l.Index]
		switch {
		case !w.lacks(plan) && l.Carrier && !pending[l.Index]:
			w.settled[l.Index] = l
			w.found(l, now)
		case settled && l.Up && !l.Carrier:
			// No fault of ours and nothing to repair; good to know afterwards.
			k := key{index: l.Index, fault: "no carrier"}
			wanted[k] = true
			if w.tries[k] == nil {
				w.tries[k] = &attempt{}
				w.cfg.Journal.begin(k, l.Name, now)
			}
		}
	}
	if err == nil { // a partial view ends nothing
		w.forget(wanted, pending, now)
		for i := range w.settled {
			if !present[i] {
				w.lose(i, "link is gone", 0, now)
				delete(w.settled, i)
			}
		}
	}
	w.cfg.Changed(links)
	return wait
}

// escalate tells of a repair that does not help, on a link that worked before: one
// that never did may be meant to be as it is. What a neighbour claims is no fault of
// ours.
func (w *Watchdog) escalate(l link.Link, r Repair, lasts time.Duration) {
	_, worked := w.settled[l.Index]
	if worked && !r.claimed() && lasts >= bounceAfter && w.cfg.Stuck != nil {
		w.cfg.Stuck(l, r.Fault, lasts)
	}
}

// lacks says whether a plan has anything but addresses that a neighbour has.
func (w *Watchdog) lacks(plan []Repair) bool {
	return slices.ContainsFunc(plan, func(r Repair) bool {
		_, claimed := w.claimed[place{r.Index, r.Addr}]
		return !claimed
	})
}

// lose notes that a link that was served has left.
func (w *Watchdog) lose(index int, fault string, master int, now time.Time) {
	last, ok := w.settled[index]
	if !ok {
		return
	}
	if len(w.lost) >= maxIncidents { // links that come and go for ever
		clear(w.lost)
	}
	w.lost[index] = lost{fault, last, master}
	w.cfg.Journal.begin(key{index: index, fault: fault}, last.Name, now)
	w.cfg.Log.Warn("fault", "link", last.Name, "fault", fault)
}

// found ends what was noted when a link left: it is back, under its name or with
// its MAC, or who has taken it is served now.
func (w *Watchdog) found(l link.Link, now time.Time) {
	for i, o := range w.lost {
		if i != l.Index && o.master != l.Index && o.last.Name != l.Name && !bytes.Equal(o.last.MAC, l.MAC) {
			continue
		}
		delete(w.lost, i)
		if took, ok := w.cfg.Journal.end(key{index: i, fault: o.fault}, now); ok {
			w.cfg.Log.Info("recovered", "link", l.Name, "fault", o.fault, "after", took.Round(time.Millisecond))
		}
	}
}

// noteList logs an error of List when it appears and when it has gone.
func (w *Watchdog) noteList(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == w.lastErr {
		return
	}
	if w.lastErr = text; err != nil {
		w.cfg.Log.Warn("reading the state of links", "err", err)
	} else {
		w.cfg.Log.Info("reading the state of links works again")
	}
}

// repair tries r if it is due and returns when the next attempt is.
func (w *Watchdog) repair(k key, r Repair, now time.Time) time.Duration {
	// What is missing when a link is seen for the first time is no incident: it
	// has only just come. A neighbour's claim is one.
	_, settled := w.settled[r.Index]
	if (settled || r.claimed()) && w.cfg.Journal.begin(k, r.Name, now) {
		w.cfg.Log.Warn("fault", "link", r.Name, "fault", r.Fault)
	}
	t := w.tries[k]
	if t == nil {
		t = &attempt{first: now}
		w.tries[k] = t
	}
	if due := t.next.Sub(now); due > 0 {
		return due
	}
	err := w.cfg.Apply(r)
	what := string(r.Action)
	if err != nil {
		what += ": " + err.Error()
	}
	w.cfg.Journal.repaired(k, what)
	if t.pause == 0 {
		w.cfg.Log.Info("repair", "link", r.Name, "fault", r.Fault, "action", r.Action, "addr", r.Addr, "err", err)
	}
	t.pause = nextPause(t.pause, r.Action)
	t.next = now.Add(t.pause)
	return t.pause
}

// nextPause returns the pause after an attempt, given the one before it.
func nextPause(last time.Duration, a Action) time.Duration {
	if a == DeleteAddress {
		return minBackoff // it is deleted once a minute only
	}
	return min(max(2*last, minBackoff), maxBackoff)
}

// forget drops the repairs that are no longer wanted and ends their incidents.
func (w *Watchdog) forget(wanted map[key]bool, pending map[int]bool, now time.Time) {
	for k := range w.tries {
		if wanted[k] || pending[k.index] {
			continue
		}
		delete(w.tries, k)
		if took, ok := w.cfg.Journal.end(k, now); ok {
			w.cfg.Log.Info("recovered", "fault", k.fault, "after", took.Round(time.Millisecond))
		}
	}
}
