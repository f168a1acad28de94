package scan

import (
	"bytes"
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
	first, last time.Time
}

// table is what was seen. The time for each sighting does not depend on how many
// there are.
type table struct {
	seen    map[place]*sighting
	names   map[int]string      // of links, by index
	own     map[netip.Addr]bool // addresses of this machine
	dropped int
}

func newTable() *table {
	return &table{seen: make(map[place]*sighting), names: make(map[int]string), own: make(map[netip.Addr]bool)}
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
		if len(t.seen) >= maxSightings {
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

func (k *sighting) saw(v Via) {
	if v != "" && !slices.Contains(k.via, v) {
		k.via = append(k.via, v)
	}
}

// answered says whether it has answered a probe of ours.
func (k *sighting) answered() bool { return k.rtt > 0 }
