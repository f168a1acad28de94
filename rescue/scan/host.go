package scan

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"slices"
	"time"

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
	Addresses []Address // the one to type comes first
	SSH       *SSH      // nil if nobody answered
}

// Address is one of a host's link-local addresses.
type Address struct {
	Addr netip.Addr // with the link's name as its zone
	Via  []Via
	RTT  time.Duration // of the fastest echo; 0 if none was answered
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

// merge makes hosts of sightings. Who is one and the same is told by the MAC, or
// by the host key where no MAC is known. A proxy answers for several with one MAC:
// addresses made from different MACs (EUI-64) stay apart, and so do keys.
func merge(seen []*sighting, macs map[place]net.HardwareAddr, mine []Instance, links map[int]string) []Host {
	// An order that does not depend on who answered first.
	slices.SortFunc(seen, func(a, b *sighting) int {
		return cmp.Or(cmp.Compare(a.index, b.index), a.addr.Compare(b.addr))
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
		mac := macs[s.place]
		n := node{index: s.index, mac: string(mac)}
		if _, ok := keyOf[n]; !ok || s.addr == identity.EUI64(mac) {
			keyOf[n] = s.ssh.Fingerprint()
		}
	}

	hosts := make(map[node]*Host)
	for _, s := range seen {
		mac := macs[s.place]
		n := node{index: s.index, mac: string(mac)}
		if s.ssh != nil && (mac == nil || s.ssh.Fingerprint() != keyOf[n]) {
			n.key = s.ssh.Fingerprint()
		}
		if mac == nil && s.ssh == nil || isEUI64(s.addr) && s.addr != identity.EUI64(mac) && n.key == "" && mac != nil {
			n.alone = s.addr
		}
		h, ok := hosts[n]
		if !ok {
			h = &Host{Interface: links[s.index], MAC: mac}
			hosts[n] = h
		}
		h.Self = h.Self || s.self
		if h.SSH == nil {
			h.SSH = s.ssh
		}
		h.Addresses = append(h.Addresses, Address{s.addr.WithZone(h.Interface), s.via, s.rtt})
	}

	all := make([]Host, 0, len(hosts))
	for _, h := range hosts {
		h.Name = nameOf(*h, mine)
		typed := netip.Addr{}
		if h.SSH != nil {
			typed = h.SSH.Addr.Addr()
		}
		slices.SortFunc(h.Addresses, func(a, b Address) int {
			return cmp.Or(-compareBool(a.Addr == typed, b.Addr == typed), a.Addr.Compare(b.Addr))
		})
		all = append(all, *h)
	}
	slices.SortFunc(all, compareHosts)
	return all
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
