//go:build linux

package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SetUp raises a link (IFF_UP).
func SetUp(index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	msg.Flags = unix.IFF_UP
	msg.Change = unix.IFF_UP // of all the flags, this one
	if err := change(unix.RTM_NEWLINK, 0, msg); err != nil {
		return fmt.Errorf("raising link %d: %w", index, err)
	}
	return nil
}

// prefixBits is the length of the prefix of every address that is added: that of
// a link-local address (RFC 4291 §2.5.6).
const prefixBits = 64

// AddAddress adds an IPv6 address with a prefix of 64 bits to a link, for ever.
// With nodad, duplicate address detection (RFC 4862 §5.4) is left out: the
// address is usable at once, even if a neighbour has it.
//
// An address that is there already is left as it is, whatever its state: to try
// again one that failed DAD, delete it first.
func AddAddress(index int, addr netip.Addr, nodad bool) error {
	var flags uint32
	if nodad {
		flags = unix.IFA_F_NODAD
	}
	msg, err := addressMessage(index, addr, prefixBits)
	if err == nil {
		err = change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(msg,
			nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(flags)))...)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding %s to link %d: %w", addr, index, err)
	}
	return nil
}

// DelAddress removes an IPv6 address from a link, whatever the length of its
// prefix. That it is not there is no error.
func DelAddress(index int, addr netip.Addr) error {
	if err := delAddress(index, addr); err != nil {
		return fmt.Errorf("deleting %s from link %d: %w", addr, index, err)
	}
	return nil
}

func delAddress(index int, addr netip.Addr) error {
	// The kernel deletes only what has the same length, so look that up.
	msgs, err := dump(unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_INET6))
	for _, m := range msgs {
		i, a, parseErr := parseAddress(m)
		if parseErr != nil || i != index || a.Prefix.Addr() != addr.WithZone("") {
			continue
		}
		msg, err := addressMessage(index, addr, a.Prefix.Bits())
		if err == nil {
			err = change(unix.RTM_DELADDR, 0, msg...)
		}
		if errors.Is(err, unix.EADDRNOTAVAIL) { // somebody else was faster
			return nil
		}
		return err
	}
	return err
}

// addressMessage returns the parts of a message about one IPv6 address.
func addressMessage(index int, addr netip.Addr, bits int) ([]nl.NetlinkRequestData, error) {
	if !addr.Is6() || addr.Is4In6() {
		return nil, fmt.Errorf("%s is no IPv6 address", addr)
	}
	msg := nl.NewIfAddrmsg(unix.AF_INET6)
	msg.Index = uint32(index)
	msg.Prefixlen = uint8(bits)
	return []nl.NetlinkRequestData{msg, nl.NewRtAttr(unix.IFA_LOCAL, addr.AsSlice())}, nil
}

// change sends a message and waits until the kernel has done what it says.
func change(kind, flags int, parts ...nl.NetlinkRequestData) error {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	for _, p := range parts {
		req.AddData(p)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
