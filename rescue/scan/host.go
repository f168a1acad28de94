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
	"rescue6/rescue/identity"
)

// Host is one node on one link. A node on two links is two hosts: it is reached in
// two ways.
type Host struct {
	Interface string           // of this machine
	MAC       net.HardwareAddr // nil if it is not known
	// Name is that of the own instance whose pinned key the host has proved to
	// own, "" if it is none.
	Name      string
	Self      bool      // it is this machine
	Router    bool      // it says that it is one
	Conflict  bool      // another claims one of its addresses
	Addresses []Address // the one to type comes first
	Names     []string  // as it gives them by mDNS: claims, but safe to print
	IPv4      []netip.Addr
	Ports     []uint16 // that are open, of those asked for by [Ports]
	SSH       *SSH     // nil if nobody answered
	// Announced is what it said of itself as an instance, with a valid signature; nil
	// if nothing was heard.
	Announced   *announce.Announcement
	First, Last time.Time // when it was seen
}

// Address is one of a host's addresses.
type Address struct {
	Addr netip.Addr // with the link's name as its zone if it is link-local
	Via  []Via
	RTT  time.Duration // of the fastest echo; 0 if none was answered
}

// Scope returns "link", "private" (RFC 4193) or "global".
func (a Address) Scope() string {
	switch {
	case a.Addr.IsLinkLocalUnicast():
		return "link"
	case a.Addr.IsPrivate():
		return "private"
	}
	return "global"
}

// SelfConsistent says that one of the host's addresses is made from its host key.
// That is true of every instance and proves nothing else: "yours" is said of
// pinned keys only.
func (h Host) SelfConsistent() bool {
	key, ok := h.SSH.Ed25519()
	if !ok {
		return false
	}
	label := identity.LabelAddress(key)
	return slices.ContainsFunc(h.Addresses, func(a Address) bool { return a.Addr.WithZone("") == label })
}

// hosts makes hosts of sightings. Who is one and the same is told by the MAC, or by
// the host key where no MAC is known. A proxy answers for several with one MAC:
// addresses made from different MACs (EUI-64) stay apart, and so do keys.
func (t *table) hosts(mine []Instance) []Host {
	// An order that does not depend on who answered first: link-local addresses, whose
	// keys are known, come first.
	seen := slices.SortedFunc(maps.Values(t.seen), func(a, b *sighting) int {
		return cmp.Or(cmp.Compare(a.index, b.index), compareAddrs(a.addr, b.addr))
	})
	type node struct {
		index    int
		mac, key string
		alone    netip.Addr // nothing but the address is known
	}
	// What a MAC says about itself: the key shown at its own EUI-64 address, or
	// at the first address of it that shows any.
	keyOf := make(map[node]string)
	for _, s := range seen {
		if s.ssh == nil {
			continue
		}
		n := node{index: s.index, mac: string(s.mac)}
		if _, ok := keyOf[n]; !ok || s.addr == identity.EUI64(s.mac) {
			keyOf[n] = s.ssh.Fingerprint()
		}
	}

	hosts := make(map[node]*Host)
	for _, s := range seen {
		n := node{index: s.index, mac: string(s.mac)}
		if s.ssh != nil && (s.mac == nil || s.ssh.Fingerprint() != keyOf[n]) {
			n.key = s.ssh.Fingerprint()
		}
		if s.mac == nil && s.ssh == nil || s.isOthers() && n.key == "" {
			n.alone = s.addr
		}
		h, ok := hosts[n]
		if !ok {
			h = &Host{First: s.first}
			hosts[n] = h
		}
		h.add(t.host(s))
	}

	all := make([]Host, 0, len(hosts))
	for _, h := range hosts {
		h.Name = nameOf(*h, mine)
		typed := netip.Addr{}
		if h.SSH != nil {
			typed = h.SSH.Addr.Addr()
		}
		slices.SortFunc(h.Addresses, func(a, b Address) int {
			return cmp.Or(-compareBool(a.Addr == typed, b.Addr == typed), compareAddrs(a.Addr, b.Addr))
		})
		all = append(all, *h)
	}
	slices.SortFunc(all, compareHosts)
	return all
}

// isOthers says whether an address was made from the MAC of another than who
// answers for it: a proxy.
func (k *sighting) isOthers() bool {
	return k.mac != nil && k.addr.IsLinkLocalUnicast() && isEUI64(k.addr) && k.addr != identity.EUI64(k.mac)
}

// host returns a sighting as a host of its own.
func (t *table) host(s *sighting) Host {
	a := Address{s.addr, s.via, s.rtt}
	if s.addr.IsLinkLocalUnicast() {
		a.Addr = s.addr.WithZone(t.names[s.index])
	}
	return Host{
		Interface: t.names[s.index], MAC: s.mac, Self: s.self, Router: s.router, Conflict: s.conflict,
		Addresses: []Address{a}, Names: s.names, SSH: s.ssh, Announced: s.announced, First: s.first, Last: s.last,
	}
}

// add takes in another address of a host.
func (h *Host) add(o Host) {
	h.Interface, h.MAC = o.Interface, o.MAC
	h.Self, h.Router, h.Conflict = h.Self || o.Self, h.Router || o.Router, h.Conflict || o.Conflict
	h.Addresses = append(h.Addresses, o.Addresses...)
	for _, n := range o.Names {
		if !slices.Contains(h.Names, n) {
			h.Names = append(h.Names, n)
		}
	}
	if h.SSH == nil {
		h.SSH = o.SSH
	}
	if h.Announced == nil {
		h.Announced = o.Announced
	}
	if o.First.Before(h.First) {
		h.First = o.First
	}
	if o.Last.After(h.Last) {
		h.Last = o.Last
	}
}

// compareAddrs sorts link-local addresses first.
func compareAddrs(a, b netip.Addr) int {
	return cmp.Or(-compareBool(a.IsLinkLocalUnicast(), b.IsLinkLocalUnicast()), a.Compare(b))
}

// compareHosts sorts own instances first, then who has SSH, this machine last.
func compareHosts(a, b Host) int {
	return cmp.Or(
		compareBool(a.Self, b.Self),
		compareBool(a.Name == "", b.Name == ""), cmp.Compare(a.Name, b.Name),
		compareBool(a.SSH == nil, b.SSH == nil),
		cmp.Compare(a.Interface, b.Interface),
		bytes.Compare(a.MAC, b.MAC),
		a.Addresses[0].Addr.Compare(b.Addresses[0].Addr),
	)
}

// compareBool sorts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func nameOf(h Host, mine []Instance) string {
	key, ok := h.SSH.Ed25519()
	if !ok {
		return ""
	}
	for _, i := range mine {
		if i.Key.Equal(key) {
			return i.Name
		}
	}
	return ""
}

// isEUI64 says whether an address looks as if it were made from a MAC.
func isEUI64(a netip.Addr) bool {
	b := a.As16()
	return b[11] == 0xff && b[12] == 0xfe
}
