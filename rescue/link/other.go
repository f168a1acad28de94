//go:build !linux

package link

import (
	"fmt"
	"net"
	"net/netip"
)

// Neighbour is an entry of the neighbour table (RFC 4861 §5.1) with a known
// link-layer address.
type Neighbour struct {
	Index int // of the link
	Addr  netip.Addr
	MAC   net.HardwareAddr
}

// Neighbours returns nothing: the table is read on Linux only.
func Neighbours() ([]Neighbour, error) { return nil, nil }

// List returns all links with their addresses, as far as package net knows them.
func List() ([]Link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	var links []Link
	for _, i := range all {
		l := Link{
			Index: i.Index, Name: i.Name, MAC: i.HardwareAddr, Encap: "none",
			Up: i.Flags&net.FlagUp != 0, Carrier: i.Flags&net.FlagRunning != 0,
		}
		switch {
		case i.Flags&net.FlagLoopback != 0:
			l.Encap = "loopback"
		case len(i.HardwareAddr) == 6:
			l.Encap = "ether"
		}
		addrs, err := i.Addrs()
		if err != nil {
			return links, fmt.Errorf("listing addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			if p.Addr().Is4() {
				l.IPv4 = append(l.IPv4, Address{Prefix: p})
			} else {
				l.IPv6 = append(l.IPv6, Address{Prefix: netip.PrefixFrom(p.Addr().WithZone(""), p.Bits())})
			}
		}
		links = append(links, l)
	}
	return links, nil
}
