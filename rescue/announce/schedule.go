package announce

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// The pace of announcements. RFC 4861 §7.2.6 allows three in a row, at least
// RetransTimer (1 s, §10) apart; the ones after that are no reaction to a change,
// but let a listener that came late hear them.
const (
	burst      = 3                // MAX_NEIGHBOR_ADVERTISEMENT (RFC 4861 §10)
	spacing    = time.Second      // RETRANS_TIMER (RFC 4861 §10)
	period     = 60 * time.Second // between announcements when nothing happens,
	spread     = 0.25             // give or take this share of it
	maxBackoff = 5 * time.Second  // longest wait after a failure
)

// interval returns the wait after the n-th announcement since an event, counted
// from 1. jitter is from [0, 1); it keeps instances that were switched on
// together from announcing themselves together for ever.
func interval(n int, jitter float64) time.Duration {
	if n < burst {
		return spacing
	}
	return time.Duration(float64(period) * (1 - spread + 2*spread*jitter))
}

// backoff returns the wait after the n-th failure in a row, counted from 1.
func backoff(n int) time.Duration {
	return min(spacing<<min(n-1, 8), maxBackoff)
}

// A target is what one announcement is about, with all that goes into it from
// the link: if anything here changes, it is announced anew.
type target struct {
	index  int
	addr   netip.Addr
	mac    [6]byte
	router bool
}

// A place is where the kernel keeps an address. RFC 4861 limits the rate of
// announcements for each, whatever MAC address it has.
type place struct {
	index int
	addr  netip.Addr
}

// A schedule knows when which target is to be announced. It is plain data; time
// and chance are handed to it.
type schedule struct {
	entries  map[place]*entry
	ipv4Dead bool
}

// An entry is a target and how far its announcements have got.
type entry struct {
	target
	gone     bool      // not to be announced; kept until last is spacing ago
	sent     int       // since the last event
	failures int       // in a row
	due      time.Time // when to announce it
	last     time.Time // when it was last announced; zero if never
}

// update makes targets the ones to announce. What is new or has changed is due
// at once, and everything is if ipv4Dead has changed.
func (s *schedule) update(now time.Time, targets []target, ipv4Dead bool) {
	if s.entries == nil {
		s.entries = make(map[place]*entry)
	}
	changed := s.ipv4Dead != ipv4Dead
	s.ipv4Dead = ipv4Dead

	present := make(map[place]bool, len(targets))
	for _, t := range targets {
		p := place{t.index, t.addr}
		present[p] = true
		e := s.entries[p]
		switch {
		case e == nil:
			s.entries[p] = &entry{target: t, due: now}
		case e.gone, e.target != t, changed:
			// An event during a burst begins a new one, but a link that
			// flaps does not make it faster than RFC 4861 §7.2.6 allows.
			due := now
			if earliest := e.last.Add(spacing); !e.last.IsZero() && earliest.After(now) {
				due = earliest
			}
			*e = entry{target: t, due: due, last: e.last}
		}
	}
	for p, e := range s.entries {
		switch {
		case present[p]:
		case now.Sub(e.last) >= spacing:
			delete(s.entries, p)
		default:
			e.gone = true
		}
	}
}

// next returns when the next announcement is due; ok is false if there is none.
func (s *schedule) next() (at time.Time, ok bool) {
	for _, e := range s.entries {
		if !e.gone && (!ok || e.due.Before(at)) {
			at, ok = e.due, true
		}
	}
	return at, ok
}

// due returns the entries to announce now, in the order of their links.
func (s *schedule) due(now time.Time) []*entry {
	var batch []*entry
	for _, e := range s.entries {
		if !e.gone && !e.due.After(now) {
			batch = append(batch, e)
		}
	}
	slices.SortFunc(batch, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.index, b.index), a.addr.Compare(b.addr))
	})
	return batch
}

// done notes that an entry was announced at now, or that this failed. Entries of
// one batch get the same jitter, so that they stay together: one wake-up serves
// all of them.
func (e *entry) done(now time.Time, ok bool, jitter float64) {
	if !ok {
		e.failures++
		e.due = now.Add(backoff(e.failures))
		return
	}
	e.failures = 0
	e.sent = min(e.sent+1, burst)
	e.last = now
	e.due = now.Add(interval(e.sent, jitter))
}
