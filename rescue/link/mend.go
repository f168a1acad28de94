//go:build linux

package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddPrefix adds an address of either family to a link, as a person who mends a
// network does: with the length of its prefix, and with DAD for IPv6. One that is
// there already is no error.
func AddPrefix(index int, p netip.Prefix) error {
	err := change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, prefixMessage(index, p)...)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding %s to link %d: %w", p, index, err)
	}
	return nil
}

// DelPrefix removes what AddPrefix added, or anybody else.
func DelPrefix(index int, p netip.Prefix) error {
	if err := change(unix.RTM_DELADDR, 0, prefixMessage(index, p)...); err != nil {
		return fmt.Errorf("deleting %s from link %d: %w", p, index, err)
	}
	return nil
}

func prefixMessage(index int, p netip.Prefix) []nl.NetlinkRequestData {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index = uint32(index)
	msg.Prefixlen = uint8(p.Bits())
	return []nl.NetlinkRequestData{msg,
		nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()), nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice())}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// SetDefaultRoute makes gateway the default route of its family over a link, in
// place of another one.
func SetDefaultRoute(index int, gateway netip.Addr) error {
	err := change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, defaultRoute(index, gateway)...)
	if err != nil {
		return fmt.Errorf("setting the default route via %s: %w", gateway, err)
	}
	return nil
}

// DelDefaultRoute removes the default route over a link via gateway.
func DelDefaultRoute(index int, gateway netip.Addr) error {
	if err := change(unix.RTM_DELROUTE, 0, defaultRoute(index, gateway)...); err != nil {
		return fmt.Errorf("deleting the default route via %s: %w", gateway, err)
	}
	return nil
}

func defaultRoute(index int, gateway netip.Addr) []nl.NetlinkRequestData {
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(gateway))
	return []nl.NetlinkRequestData{msg,
		nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))}
}

// SetDown takes a link down. The kernel removes its IPv6 addresses and routes.
func SetDown(index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	msg.Change = unix.IFF_UP
	if err := change(unix.RTM_NEWLINK, 0, msg); err != nil {
		return fmt.Errorf("taking down link %d: %w", index, err)
	}
	return nil
}
