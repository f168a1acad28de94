// Package link is what the kernel says about network links and addresses, and
// the only hands that change them.
//
// [List] reads the whole state; [Watch] says when to read it again. What changes
// something takes the index of a link, since a name may be given to another link
// meanwhile, and can be called twice: the second time changes nothing.
//
// All of it speaks rtnetlink and writes below /proc/sys/net; nothing else is
// opened. Functions act on the network namespace of the calling thread.
package link

import (
	"errors"
	"net"
	"net/netip"
)

// ErrNoIPv6 says that the kernel has no IPv6 at all: it was built without, or
// started with ipv6.disable=1. Only another kernel command line helps.
var ErrNoIPv6 = errors.New("this kernel has no IPv6 (is ipv6.disable=1 in its command line?)")

// Link is one network interface, as the kernel has it at one moment.
type Link struct {
	Index int    // positive, and never changes
	Name  string // may change
	// MAC is the hardware address; nil if there is none or it is all zeros, as
	// that of the loopback is.
	MAC net.HardwareAddr

	// Kind is the driver of a virtual link, "veth", "bridge", "vlan", "tun", …,
	// and empty for a physical device (IFLA_INFO_KIND).
	Kind string
	// Encap is the hardware type by the name that iproute2 has for it: "ether"
	// (that includes Wi-Fi), "loopback", "none", …, or "[N]" for one it does not
	// name (ARPHRD_* of linux/if_arp.h).
	Encap string

	Up      bool // administratively (IFF_UP)
	Carrier bool // there is something at the other end (IFF_LOWER_UP)

	// Master is the index of the bridge or bond that the link is a port of, 0 if
	// there is none.
	Master int
	// PeerNamespace says that this is a veth whose other end is in another
	// network namespace.
	PeerNamespace bool

	// IPv6Disabled says that the link takes no part in IPv6: disable_ipv6 is set,
	// or its MTU is below 1280 (RFC 8200 §5), or the kernel has no IPv6.
	IPv6Disabled bool
	// AddrGenMode is how the kernel makes link-local addresses for the link;
	// meaningless if IPv6Disabled.
	AddrGenMode AddrGenMode
	// Forwarding says that the link routes IPv6 (RFC 4861 §6.2.1, IsRouter).
	Forwarding bool

	IPv6 []Address
	IPv4 []Address
	// Gateways4 are the next hops of IPv4 default routes over this link, in the
	// kernel's order of the main table. One may be an IPv6 address (RFC 8950).
	Gateways4 []netip.Addr
}

// AddrGenMode is a value of net.ipv6.conf.*.addr_gen_mode.
type AddrGenMode int

// The modes (IN6_ADDR_GEN_MODE_* of linux/if_link.h).
const (
	AddrGenEUI64         AddrGenMode = 0 // from the MAC (RFC 4291, appendix A)
	AddrGenNone          AddrGenMode = 1 // no address
	AddrGenStablePrivacy AddrGenMode = 2 // from a secret that was set (RFC 7217)
	AddrGenRandom        AddrGenMode = 3 // from a secret that the kernel made up (RFC 7217)
)

// Address is an address of a link.
type Address struct {
	Prefix netip.Prefix // the address itself, not masked, and the length of its prefix

	// Tentative says that duplicate address detection (RFC 4862 §5.4) has not
	// said yes: it is under way, or DADFailed. Nothing can be bound to it.
	Tentative bool
	// DADFailed says that a neighbour has the address. The kernel never tries
	// again by itself.
	DADFailed bool
}

// Usable says whether sockets can be bound to the address and packets to it are
// answered.
func (a Address) Usable() bool { return !a.Tentative && !a.DADFailed }

// LinkLocal returns the link's link-local IPv6 addresses (RFC 4291 §2.5.6).
func (l Link) LinkLocal() []Address {
	var all []Address
	for _, a := range l.IPv6 {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			all = append(all, a)
		}
	}
	return all
}
