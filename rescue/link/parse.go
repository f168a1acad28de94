//go:build linux

package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The messages are read here and not by the netlink module, which shows none of
// the inet6 attributes and trusts every length.

// Attributes that x/sys/unix does not name.
const (
	// devconf* are indexes into IFLA_INET6_CONF (DEVCONF_* of linux/ipv6.h).
	devconfForwarding  = 0
	devconfDisableIPv6 = 26

	nestedMask = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
)

var native = binary.NativeEndian

// attributes yields the type and value of each attribute in b and stops at the
// first that does not fit.
func attributes(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(native.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			if !yield(int(native.Uint16(b[2:])&^nestedMask), b[unix.SizeofRtAttr:n]) {
				return
			}
			aligned := (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
			b = b[min(aligned, len(b)):]
		}
	}
}

// uint32At returns the i-th 32-bit number of an attribute's value, 0 beyond its
// end.
func uint32At(b []byte, i int) uint32 {
	if len(b) < 4*(i+1) {
		return 0
	}
	return native.Uint32(b[4*i:])
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// header checks that a message is long enough for its fixed part and splits it.
func header(msg []byte, size int) (fixed, attrs []byte, err error) {
	if len(msg) < size {
		return nil, nil, fmt.Errorf("message from the kernel has %d bytes, want at least %d", len(msg), size)
	}
	return msg[:size], msg[size:], nil
}

// parseLink reads an RTM_NEWLINK message (struct ifinfomsg and IFLA_*).
func parseLink(msg []byte) (Link, error) {
	h, attrs, err := header(msg, unix.SizeofIfInfomsg)
	if err != nil {
		return Link{}, err
	}
	flags := native.Uint32(h[8:])
	l := Link{
		Index:        int(int32(native.Uint32(h[4:]))),
		Encap:        encap(native.Uint16(h[2:])),
		Up:           flags&unix.IFF_UP != 0,
		Carrier:      flags&unix.IFF_LOWER_UP != 0,
		IPv6Disabled: true, // until the link shows that it has IPv6
	}
	foreign := false
	for t, v := range attributes(attrs) {
		switch t {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_ADDRESS:
			if len(bytes.Trim(v, "\x00")) > 0 {
				l.MAC = net.HardwareAddr(bytes.Clone(v))
			}
		case unix.IFLA_MASTER:
			l.Master = int(int32(uint32At(v, 0)))
		case unix.IFLA_LINK_NETNSID:
			foreign = true
		case unix.IFLA_LINKINFO:
			for t, v := range attributes(v) {
				if t == unix.IFLA_INFO_KIND {
					l.Kind = text(v)
				}
			}
		case unix.IFLA_AF_SPEC:
			for family, v := range attributes(v) {
				if family == unix.AF_INET6 {
					l.parseInet6(v)
				}
			}
		}
	}
	l.PeerNamespace = foreign && l.Kind == "veth"
	return l, nil
}

// parseInet6 reads the IFLA_INET6_* attributes, which a link with IPv6 has.
func (l *Link) parseInet6(b []byte) {
	for t, v := range attributes(b) {
		switch {
		case t == unix.IFLA_INET6_CONF:
			l.Forwarding = uint32At(v, devconfForwarding) != 0
			l.IPv6Disabled = uint32At(v, devconfDisableIPv6) != 0
		case t == unix.IFLA_INET6_ADDR_GEN_MODE && len(v) > 0:
			l.AddrGenMode = AddrGenMode(v[0])
		}
	}
}

// parseAddress reads an RTM_NEWADDR message (struct ifaddrmsg and IFA_*).
func parseAddress(msg []byte) (index int, a Address, err error) {
	h, attrs, err := header(msg, unix.SizeofIfAddrmsg)
	if err != nil {
		return 0, Address{}, err
	}
	flags := uint32(h[2])
	var address, local netip.Addr
	for t, v := range attributes(attrs) {
		switch t {
		case unix.IFA_ADDRESS: // of the peer, where there is one
			address, _ = netip.AddrFromSlice(v)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_FLAGS: // all 32 bits of them
			flags = uint32At(v, 0)
		}
	}
	if local.IsValid() {
		address = local
	}
	a = Address{
		Prefix:    netip.PrefixFrom(address, int(h[1])),
		Tentative: flags&unix.IFA_F_TENTATIVE != 0,
		DADFailed: flags&unix.IFA_F_DADFAILED != 0,
	}
	if !a.Prefix.IsValid() {
		return 0, Address{}, fmt.Errorf("kernel sent an address of family %d that is none: %s/%d", h[0], address, h[1])
	}
	return int(int32(native.Uint32(h[4:]))), a, nil
}

// A hop is one way of a default route.
type hop struct {
	index   int
	gateway netip.Addr
}

// parseDefaultRoute reads an RTM_NEWROUTE message (struct rtmsg and RTA_*) and
// returns the gateways of a default route in the main table, nothing for any
// other route.
func parseDefaultRoute(msg []byte) ([]hop, error) {
	h, attrs, err := header(msg, unix.SizeofRtMsg)
	if err != nil {
		return nil, err
	}
	bits, table, kind := h[1], uint32(h[4]), h[7]
	var only hop
	var all []hop
	for t, v := range attributes(attrs) {
		switch t {
		case unix.RTA_TABLE:
			table = uint32At(v, 0)
		case unix.RTA_OIF:
			only.index = int(int32(uint32At(v, 0)))
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			only.gateway = gateway(t, v)
		case unix.RTA_MULTIPATH:
			all = multipath(v)
		}
	}
	if bits != 0 || table != unix.RT_TABLE_MAIN || kind != unix.RTN_UNICAST {
		return nil, nil
	}
	if only.gateway.IsValid() {
		all = append(all, only)
	}
	return all, nil
}

// multipath reads the next hops of one route (struct rtnexthop, each with
// attributes of its own).
func multipath(b []byte) []hop {
	var all []hop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(native.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		h := hop{index: int(int32(native.Uint32(b[4:])))}
		for t, v := range attributes(b[unix.SizeofRtNexthop:n]) {
			if t == unix.RTA_GATEWAY || t == unix.RTA_VIA {
				h.gateway = gateway(t, v)
			}
		}
		if h.gateway.IsValid() {
			all = append(all, h)
		}
		aligned := (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		b = b[min(aligned, len(b)):]
	}
	return all
}

// gateway reads an address, in RTA_VIA after two bytes that tell its family.
func gateway(t int, v []byte) netip.Addr {
	if t == unix.RTA_VIA && len(v) >= 2 {
		v = v[2:]
	}
	a, _ := netip.AddrFromSlice(v)
	return a
}

// encap names a hardware type as iproute2 does.
func encap(t uint16) string {
	switch t {
	case unix.ARPHRD_ETHER:
		return "ether"
	case unix.ARPHRD_LOOPBACK:
		return "loopback"
	case unix.ARPHRD_NONE:
		return "none"
	case unix.ARPHRD_PPP:
		return "ppp"
	case unix.ARPHRD_TUNNEL:
		return "ipip"
	case unix.ARPHRD_TUNNEL6:
		return "tunnel6"
	case unix.ARPHRD_SIT:
		return "sit"
	case unix.ARPHRD_IPGRE:
		return "gre"
	case unix.ARPHRD_IP6GRE:
		return "gre6"
	case unix.ARPHRD_INFINIBAND:
		return "infiniband"
	case unix.ARPHRD_CAN:
		return "can"
	}
	return fmt.Sprintf("[%d]", t)
}
