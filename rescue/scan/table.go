package scan

import (
	"bytes"
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"rescue6/rescue/announce"
	"rescue6/rescue/link"
)

// place is an address on a link. The same link-local address on two links may be
// two hosts.
type place struct {
	index int        // of the link
	addr  netip.Addr // without a zone
}

// sighting is what is known of one place.
type sighting struct {
	place
	mac         net.HardwareAddr // nil if it is not known
	rtt         time.Duration    // the shortest; 0 if it is not known
	via         []Via
	self        bool
	router      bool
	names       []string
	ssh         *SSH
	announced   *announce.Announcement // with a valid signature
	conflict    bool                   // another MAC claims the address, too
	asked       bool                   // for SSH
	first, last time.Time
}

// table is what was seen. The time for each sighting does not depend on how many
// there are.
type table struct {
	seen    map[place]*sighting
	names   map[int]string      // of links, by index
	own     map[netip.Addr]bool // addresses of this machine
	dropped int

	max   int  // of places
	evict bool // the oldest make room; otherwise nothing more is kept
}

func newTable() *table {
	return &table{max: maxSightings, seen: make(map[place]*sighting), names: make(map[int]string), own: make(map[netip.Addr]bool)}
}

// learnLinks notes links and the addresses of this machine on them. A partial list
// only means that this machine may not know itself everywhere.
func (t *table) learnLinks(links []link.Link) {
	for _, l := range links {
		t.names[l.Index] = l.Name
	}
	all, _ := link.List()
	for _, l := range all {
		for _, a := range l.IPv6 {
			t.own[a.Prefix.Addr()] = true
			if a.Usable() && t.names[l.Index] != "" {
				t.self(l, a.Prefix.Addr())
			}
		}
	}
}

// empty says whether nobody but this machine was seen.
func (t *table) empty() bool {
	for _, k := range t.seen {
		if !k.self {
			return false
		}
	}
	return true
}

// self notes an address of this machine.
func (t *table) self(l link.Link, a netip.Addr) {
	now := time.Now()
	t.seen[place{l.Index, a}] = &sighting{place: place{l.Index, a}, mac: l.MAC, self: true, via: []Via{}, first: now, last: now}
}

// note takes in what was heard of a place, and returns what is known of it then, nil
// if there is no room, and whether the place is new.
func (t *table) note(a answer, rtt time.Duration) (k *sighting, news bool) {
	k, ok := t.seen[a.place]
	if !ok {
		if len(t.seen) >= t.max && !t.makeRoom() {
			t.dropped++
			return nil, false
		}
		k = &sighting{place: a.place, first: a.at}
		t.seen[a.place] = k
	}
	k.last = a.at
	// What somebody says unasked does not displace the MAC of who answered.
	mac, answered := net.HardwareAddr(a.mac[:]), a.probe.via != ""
	switch {
	case a.mac == [6]byte{}, bytes.Equal(k.mac, mac):
	case k.mac == nil:
		k.mac = bytes.Clone(mac)
	default:
		k.conflict = true
		if answered && !k.answered() {
			k.mac = bytes.Clone(mac)
		}
	}
	k.saw(a.via)
	k.router = k.router || a.router
	for _, n := range a.heard.names {
		if len(k.names) < maxNames && !slices.Contains(k.names, n) {
			k.names = append(k.names, n)
		}
	}
	if a.announced != nil && a.announced.Verify() == nil {
		k.announced = a.announced
	}
	if rtt > 0 && (k.rtt == 0 || rtt < k.rtt) {
		k.rtt = rtt
	}
	return k, !ok
}

// makeRoom drops the tenth that was seen longest ago, those first whose key is not
// known.
func (t *table) makeRoom() bool {
	if !t.evict {
		return false
	}
	oldest := slices.SortedFunc(maps.Values(t.seen), func(a, b *sighting) int {
		return cmp.Or(compareBool(a.verified(), b.verified()), a.last.Compare(b.last))
	})
	for _, k := range oldest[:max(1, len(oldest)/10)] {
		delete(t.seen, k.place)
		t.dropped++
	}
	return true
}

// verified says whether it has proved to own a key.
func (k *sighting) verified() bool { return k.self || k.ssh != nil || k.announced != nil }

// fold takes in what another table has.
func (t *table) fold(o *table) {
	for p, k := range o.seen {
		known, ok := t.seen[p]
		if !ok {
			if len(t.seen) >= t.max && !t.makeRoom() {
				continue
			}
			t.seen[p] = k
			continue
		}
		for _, v := range k.via {
			known.saw(v)
		}
		known.last = k.last
		if k.mac != nil {
			known.mac = k.mac
		}
		known.router = known.router || k.router
		if k.rtt > 0 {
			known.rtt = k.rtt
		}
		if k.ssh != nil {
			known.ssh = k.ssh
		}
		if k.announced != nil {
			known.announced = k.announced
		}
		for _, n := range k.names {
			if len(known.names) < maxNames && !slices.Contains(known.names, n) {
				known.names = append(known.names, n)
			}
		}
	}
}

func (k *sighting) saw(v Via) {
	if v != "" && !slices.Contains(k.via, v) {
		k.via = append(k.via, v)
	}
}

// answered says whether it has answered a probe of ours.
func (k *sighting) answered() bool { return k.rtt > 0 }
