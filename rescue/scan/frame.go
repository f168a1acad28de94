package scan

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"

	"rescue6/rescue/announce"
)

// heard is what one frame says about a node.
type heard struct {
	addr   netip.Addr
	mac    [6]byte // of the frame, and so of who is to be addressed
	via    Via
	probe  probe // whose answer it is; its via is "" if it came unasked
	router bool  // it says that it is a router

	announced *announce.Announcement // signed or not: to be verified
	names     []string               // hostnames, printable
}

var errNothing = errors.New("the frame says nothing of a node")

// parseFrame reads a frame from its Ethernet header on. It trusts nothing: what is
// not exactly as its RFC wants it says nothing. The result shares no memory with
// the frame.
func (n nonce) parseFrame(f []byte) (heard, error) {
	if len(f) < ethernetHeader+ipv6Header || binary.BigEndian.Uint16(f[12:]) != etherTypeIPv6 {
		return heard{}, errNothing
	}
	p := f[ethernetHeader:]
	payload := int(binary.BigEndian.Uint16(p[4:]))
	if p[0]>>4 != 6 || payload > len(p)-ipv6Header {
		return heard{}, errNothing
	}
	p = p[:ipv6Header+payload] // what follows is padding of the link
	h := heard{addr: netip.AddrFrom16([16]byte(p[8:24])), mac: [6]byte(f[6:12])}
	if h.addr.IsMulticast() || h.addr.IsLoopback() || h.addr.Is4In6() || h.mac[0]&1 != 0 {
		return heard{}, errNothing
	}
	switch next, body := upper(p); next {
	case nextICMPv6:
		if checksum(p[8:40], nextICMPv6, body) != 0 {
			return heard{}, errNothing
		}
		return n.parseICMP(h, p, body)
	case nextUDP:
		return parseMDNS(h, p, body)
	}
	return heard{}, errNothing
}

// upper returns the number of the upper-layer protocol and its packet. One
// Hop-by-Hop Options header may precede it, as it does with MLD (RFC 3810 §5).
func upper(p []byte) (byte, []byte) {
	next, body := p[6], p[ipv6Header:]
	if next == nextHopByHop && len(body) >= 8 {
		size := 8 * (int(body[1]) + 1)
		if size > len(body) {
			return 0xff, nil
		}
		return body[0], body[size:]
	}
	return next, body
}

// The types of ICMPv6 messages that tell of a node which sent them.
const (
	mldReport   = 131 // RFC 2710 §3
	mldv2Report = 143 // RFC 3810 §5.2
)

func (n nonce) parseICMP(h heard, p, m []byte) (heard, error) {
	if len(m) < icmpHeader {
		return heard{}, errNothing
	}
	var ok bool
	switch ipv6.ICMPType(m[0]) {
	case ipv6.ICMPTypeEchoReply:
		h.probe, ok = n.parseReply(m)
		h.via = h.probe.via
	case ipv6.ICMPTypeParameterProblem:
		h.probe, ok = n.parseProblem(m)
		h.via = h.probe.via
	case mldReport, mldv2Report:
		h.via, ok = ViaMLD, p[7] == 1 && h.addr.IsLinkLocalUnicast()
	case ipv6.ICMPTypeNeighborSolicitation, ipv6.ICMPTypeNeighborAdvertisement, ipv6.ICMPTypeRouterAdvertisement:
		return parseNDP(h, p, m)
	}
	if !ok || h.addr.IsUnspecified() {
		return heard{}, errNothing
	}
	return h, nil
}

// parseNDP reads a message of Neighbor Discovery with the checks of RFC 4861 §6.1.2,
// §7.1.1 and §7.1.2.
func parseNDP(h heard, p, m []byte) (heard, error) {
	const hopLimit = 255
	fixed := map[byte]int{134: 16, 135: 24, 136: 24}[m[0]]
	if p[7] != hopLimit || m[1] != 0 || len(m) < fixed {
		return heard{}, errNothing
	}
	if m[0] != 134 && netip.AddrFrom16([16]byte(m[8:24])).IsMulticast() {
		return heard{}, errNothing
	}
	linkLayer, ok := options(m[fixed:])
	if !ok {
		return heard{}, errNothing
	}
	switch m[0] {
	case 134:
		h.via, h.router = ViaRA, binary.BigEndian.Uint16(m[6:]) != 0 // Router Lifetime
		if !h.addr.IsLinkLocalUnicast() {
			return heard{}, errNothing
		}
	case 135:
		h.via = ViaNS
		if h.addr.IsUnspecified() { // duplicate address detection: it has no address yet
			return heard{}, errNothing
		}
	case 136:
		const router, solicited = 1 << 7, 1 << 6
		if p[24] == 0xff && m[4]&solicited != 0 {
			return heard{}, errNothing
		}
		h.via, h.router = ViaNA, m[4]&router != 0
		// It speaks of its target, which need not be its source.
		h.addr = netip.AddrFrom16([16]byte(m[8:24]))
		if linkLayer != nil {
			h.mac = [6]byte(linkLayer)
		}
		if a, err := announce.Parse(p); err == nil {
			h.announced = &a
			h.via = ViaAnnouncement
		}
	}
	if h.addr.IsUnspecified() || h.addr.IsLoopback() || h.mac[0]&1 != 0 {
		return heard{}, errNothing
	}
	return h, nil
}

// options returns the address in the first source or target link-layer address
// option, nil if there is none of Ethernet's length, and whether all options are
// well-formed (RFC 4861 §4.6).
func options(b []byte) (linkLayer net.HardwareAddr, ok bool) {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || 8*int(b[1]) > len(b) {
			return nil, false
		}
		if (b[0] == 1 || b[0] == 2) && b[1] == 1 && linkLayer == nil {
			linkLayer = net.HardwareAddr(b[2:8])
		}
		b = b[8*int(b[1]):]
	}
	return linkLayer, true
}
