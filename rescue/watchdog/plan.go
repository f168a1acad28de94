// Package watchdog keeps links reachable: it compares what the kernel shows with
// what should be, and repairs the difference. It knows nothing of SSH.
//
// Events only wake it. It re-reads the whole state each time, so that a lost
// event costs a few seconds and nothing else, and it never gives up.
package watchdog

import (
	"net/netip"
	"slices"

	"rescue6/rescue/identity"
	"rescue6/rescue/link"
)

// Action is one way of changing a link.
type Action string

// The actions, in the order in which they make sense.
const (
	SetUp          Action = "set up"
	EnableIPv6     Action = "enable IPv6"
	EnableEUI64    Action = "enable EUI-64 addresses"
	AddAddress     Action = "add address"
	DeleteAddress  Action = "delete address"
	ReplaceAddress Action = "delete and add address"
	ForceAddress   Action = "set address without DAD"
)

// Repair is one difference between what is and what should be, and what mends it.
type Repair struct {
	Index  int    // of the link
	Name   string // of the link
	Fault  string // what is wrong, in a few words: the journal's text
	Action Action
	Addr   netip.Addr // for the actions on addresses
}

// claimed says that the fault is a neighbour's claim to an address.
func (r Repair) claimed() bool {
	return r.Action == DeleteAddress || r.Action == ReplaceAddress || r.Action == ForceAddress
}

// Policy says which links count and what each should have.
type Policy struct {
	Label   netip.Addr // the label address; every link gets it
	Exclude []string   // names of links that are left alone
	// Host says that a veth here is the host side of a container's link. Without
	// it we may be the container ourselves, and the veth is all there is.
	Host bool
}

// Serves says whether a link has to be kept reachable, and if not, why not: each
// link that can reach a neighbour, and only those. A port of a bridge counts
// through its bridge.
func (p Policy) Serves(l link.Link) (bool, string) {
	switch {
	case slices.Contains(p.Exclude, l.Name):
		return false, "excluded by a flag"
	case l.Encap != "ether":
		return false, "not an Ethernet link"
	case l.Master != 0:
		return false, "a port of another link"
	case l.Kind == "veth" && p.Host:
		return false, "the host side of a container's link"
	}
	switch l.Kind {
	case "", "device", "veth", "bridge", "vlan", "bond", "team", "macvlan":
		return true, ""
	}
	return false, "a " + l.Kind + " link"
}

// Plan returns what has to be done about one served link, in order, nothing if
// all is well. A link without a carrier needs nothing more than to be up: nobody
// is there to be reached, and it is no fault of ours.
func (p Policy) Plan(l link.Link) []Repair {
	r := func(fault string, do Action, a netip.Addr) Repair {
		return Repair{Index: l.Index, Name: l.Name, Fault: fault, Action: do, Addr: a}
	}
	none := netip.Addr{}

	// These come first and alone: addresses can only follow.
	var first []Repair
	if !l.Up {
		first = append(first, r("link is down", SetUp, none))
	}
	if l.IPv6Disabled {
		first = append(first, r("IPv6 is disabled", EnableIPv6, none))
	}
	// This one does not: where sysctls cannot be written, addresses can still be added.
	var all []Repair
	if l.AddrGenMode == link.AddrGenNone {
		all = append(all, r("the kernel makes no link-local address", EnableEUI64, none))
	}
	if len(first) > 0 || !l.Carrier {
		return append(first, all...)
	}

	usable := slices.ContainsFunc(l.LinkLocal(), func(a link.Address) bool { return !a.DADFailed })
	for _, w := range []struct {
		what string
		addr netip.Addr
	}{
		{"EUI-64 address", identity.EUI64(l.MAC)},
		{"label address", p.Label},
	} {
		if !w.addr.IsValid() {
			continue
		}
		a, ok := find(l, w.addr)
		switch {
		case !ok:
			all = append(all, r(w.what+" is missing", AddAddress, w.addr))
		case a.DADFailed && !usable && w.addr == p.Label:
			all = append(all, r("every link-local address is claimed by a neighbour", ForceAddress, w.addr))
		case a.DADFailed && usable:
			// As long as it is ours in name we could not answer that neighbour.
			all = append(all, r(w.what+" is claimed by a neighbour", DeleteAddress, w.addr))
		case a.DADFailed:
			all = append(all, r(w.what+" is claimed by a neighbour", ReplaceAddress, w.addr))
		}
	}
	return all
}

// pending says whether DAD is still deciding about an address that the link
// should have: neither a fault nor its end.
func (p Policy) pending(l link.Link) bool {
	for _, addr := range []netip.Addr{identity.EUI64(l.MAC), p.Label} {
		if a, ok := find(l, addr); ok && a.Tentative && !a.DADFailed {
			return true
		}
	}
	return false
}

func find(l link.Link, a netip.Addr) (link.Address, bool) {
	for _, have := range l.LinkLocal() {
		if have.Prefix.Addr() == a {
			return have, true
		}
	}
	return link.Address{}, false
}
