package rescue

import (
	"net/netip"
	"sync"
	"time"

	"rescue6/rescue/link"
)

// sourcesAge is how old the picture of the neighbour table may be.
const sourcesAge = time.Second

// sources tells peers apart by link and link-layer address: a neighbour can have
// any number of IPv6 addresses, but pays for each MAC with a port of the switch, or
// shows itself there.
type sources struct {
	mu   sync.Mutex
	read time.Time
	macs map[netip.Addr]string // by address, with its zone
}

// of returns the source that a peer counts for: its link and MAC, or its address as
// long as that is not known.
func (s *sources) of(peer netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	mac, ok := s.macs[peer]
	if !ok && time.Since(s.read) > sourcesAge {
		s.refresh()
		mac, ok = s.macs[peer]
	}
	if !ok {
		return peer.String()
	}
	return mac + "%" + peer.Zone()
}

func (s *sources) refresh() {
	s.read = time.Now()
	names := map[int]string{}
	links, _ := link.List()
	for _, l := range links {
		names[l.Index] = l.Name
	}
	neighbours, _ := link.Neighbours() // a part is better than nothing
	s.macs = make(map[netip.Addr]string, len(neighbours))
	for _, n := range neighbours {
		s.macs[n.Addr.WithZone(names[n.Index])] = n.MAC.String()
	}
}
