package announce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rescue6/rescue/link"
)

// A wire collects what an announcer writes to all links.
type wire struct {
	begin time.Time

	mu     sync.Mutex
	heard  []heard
	broken error // what writing fails with
	opened int
	open   int
}

// heard is one announcement and when it was sent.
type heard struct {
	at    time.Duration
	index int
	Announcement
}

// A tap is the wire's end at one link.
type tap struct {
	*wire
	index int
}

func (w *wire) openLink(index int) (io.WriteCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened++
	w.open++
	return tap{w, index}, nil
}

func (t tap) Write(f []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return 0, t.broken
	}
	a, err := Parse(f[14:])
	if err != nil {
		return 0, err
	}
	t.heard = append(t.heard, heard{time.Since(t.begin), t.index, a})
	return len(f), a.Verify()
}

func (t tap) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	return nil
}

func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = err
}

// times returns when the announcements were sent, in whole seconds, as text.
func (w *wire) times() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s []string
	for _, h := range w.heard {
		s = append(s, fmt.Sprint(h.at.Round(time.Second)))
	}
	return strings.Join(s, " ")
}

// start runs an announcer on a wire until the test ends, in a bubble.
func start(t *testing.T, log io.Writer) (*Announcer, *wire) {
	t.Helper()
	w := &wire{begin: time.Now()}
	a := New(Config{Hostname: "attic", Port: 22, Key: testKey(), Log: slog.New(slog.NewTextHandler(log, nil))})
	a.open = w.openLink

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if w.open != 0 {
			t.Errorf("%d sockets are still open", w.open)
		}
	})
	return a, w
}

func aLink() link.Link {
	return link.Link{
		Index: 2, Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Encap: "ether", Up: true, Carrier: true,
		IPv6: []link.Address{{Prefix: netip.MustParsePrefix("fe80::ff:fe00:1/64")}},
	}
}

func TestAnnouncerPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w := start(t, io.Discard)
		time.Sleep(time.Hour)
		if len(w.heard) > 0 {
			t.Fatal("announced before there was a link")
		}
		a.Update([]link.Link{aLink()}, false)
		time.Sleep(time.Hour)
		synctest.Wait()

		var last time.Duration
		for i, h := range w.heard {
			gap := h.at - last
			switch {
			case i == 0 && h.at != time.Hour, i == 1 && gap != time.Second, i == 2 && gap != time.Second,
				i > 2 && (gap < 45*time.Second || gap > 75*time.Second):
				t.Errorf("announcement %d came after %v", i, gap)
			case h.Sequence != uint64(i+1) || h.BootID != a.BootID():
				t.Errorf("announcement %d has number %d of boot %x", i, h.Sequence, h.BootID)
			}
			last = h.at
		}
		if n := len(w.heard); n < 48+2 || n > 80+3 {
			t.Errorf("%d announcements in an hour", n)
		}
		if w.opened != 1 {
			t.Errorf("%d sockets for one link", w.opened)
		}
		sent, failed, at := a.Stats()
		if sent != uint64(len(w.heard)) || failed != 0 || at.Sub(w.begin) != last {
			t.Errorf("Stats: %d, %d, %v", sent, failed, at.Sub(w.begin))
		}
	})
}

func TestAnnouncerChooses(t *testing.T) {
	address := func(text string, change func(*link.Address)) link.Address {
		a := link.Address{Prefix: netip.MustParsePrefix(text)}
		change(&a)
		return a
	}
	as := func(*link.Address) {}
	for _, tt := range []struct {
		name   string
		change func(*link.Link)
		want   []string
	}{
		{"as it is", func(l *link.Link) {}, []string{"fe80::ff:fe00:1"}},
		{"down", func(l *link.Link) { l.Up = false }, nil},
		{"no carrier", func(l *link.Link) { l.Carrier = false }, nil},
		{"no MAC address", func(l *link.Link) { l.MAC = nil }, nil},
		{"InfiniBand", func(l *link.Link) { l.MAC = make(net.HardwareAddr, 20) }, nil},
		{"no address", func(l *link.Link) { l.IPv6 = nil }, nil},
		{"tentative, failed, global, good", func(l *link.Link) {
			l.IPv6 = []link.Address{
				address("fe80::1/64", func(a *link.Address) { a.Tentative = true }),
				address("fe80::2/64", func(a *link.Address) { a.DADFailed = true }),
				address("2001:db8::3/64", as), address("fe80::4/64", as),
			}
		}, []string{"fe80::4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, w := start(t, io.Discard)
				l := aLink()
				tt.change(&l)
				a.Update([]link.Link{l}, false)
				synctest.Wait()
				var got []string
				for _, h := range w.heard {
					got = append(got, h.Target.String())
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("announced %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestAnnouncerEvents(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*link.Link, *bool)
		check  func(heard) bool
	}{
		{"MAC address", func(l *link.Link, _ *bool) { l.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 9} },
			func(h heard) bool { return h.MAC[5] == 9 }},
		{"index", func(l *link.Link, _ *bool) { l.Index = 9 }, func(h heard) bool { return h.index == 9 }},
		{"forwarding", func(l *link.Link, _ *bool) { l.Forwarding = true }, func(h heard) bool { return h.Router }},
		{"IPv4", func(_ *link.Link, dead *bool) { *dead = true }, func(h heard) bool { return h.IPv4Dead }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, w := start(t, io.Discard)
				l, dead := aLink(), false
				a.Update([]link.Link{l}, dead)
				time.Sleep(30 * time.Second)
				tt.change(&l, &dead)
				a.Update([]link.Link{l}, dead)
				time.Sleep(10 * time.Second)
				if got := w.times(); got != "0s 1s 2s 30s 31s 32s" {
					t.Errorf("announced at %s", got)
				}
				for i, h := range w.heard {
					if tt.check(h) != (i >= 3) {
						t.Errorf("announcement %d: %+v", i, h)
					}
				}
			})
		})
	}
}

func TestAnnouncerSurvivesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		a, w := start(t, &log)
		w.fail(errors.New("network is down"))
		a.Update([]link.Link{aLink()}, false)
		time.Sleep(time.Minute)
		w.fail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()

		sent, failed, _ := a.Stats()
		if sent != 3 || failed != 14 { // at 0, 1, 3, 7, 12, 17, … 57 s
			t.Errorf("%d sent, %d failed", sent, failed)
		}
		if got := w.times(); got != "1m2s 1m3s 1m4s" {
			t.Errorf("announced at %s", got)
		}
		if w.opened != 15 {
			t.Errorf("%d sockets: one that fails must not be used again, one that works must", w.opened)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines of log instead of one when it began and one when it ended:\n%s", n, log.String())
		}
	})
}

func TestAnnouncerHostname(t *testing.T) {
	for hostname, want := range map[string]string{
		"attic": "attic", "attic.example.org": "attic", "": "", "my_host": "", strings.Repeat("x", 64): "",
	} {
		if a := New(Config{Hostname: hostname}); a.hostname != want {
			t.Errorf("hostname %q is announced as %q", hostname, a.hostname)
		}
	}
}
