package announce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/ndp"
)

// Sizes and values of the headers around an announcement.
const (
	ipv6HeaderLen = 40     // RFC 8200 §3
	icmpv6        = 58     // next header (RFC 4443 §1)
	naType        = 136    // RFC 4861 §4.4
	naHeaderLen   = 24     // ICMPv6 header, flags and target
	naRouter      = 1 << 7 // R
	naSolicited   = 1 << 6 // S
	targetLLA     = 2      // target link-layer address option (RFC 4861 §4.6.1)
	hopLimit      = 255    // RFC 4861 §7.1.2: nobody off the link can send it
)

// allNodes is where announcements go (RFC 4291 §2.7.1).
var allNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x01})

// ErrNoAnnouncement is what [Parse] returns for a valid Neighbor Advertisement
// that carries no announcement, or one of a version it does not know.
var ErrNoAnnouncement = errors.New("a Neighbor Advertisement without an announcement")

// Marshal returns the whole packet of a signed announcement, from the IPv6
// header on, with the checksum set.
func (a *Announcement) Marshal() ([]byte, error) {
	value, err := a.optionValue()
	if err != nil {
		return nil, fmt.Errorf("encoding announcement: %w", err)
	}
	target := a.Target.WithZone("")
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router:        a.Router,
		Override:      true,
		TargetAddress: target,
		Options: []ndp.Option{
			&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.MAC},
			&ndp.RawOption{Type: optionType, Length: uint8((len(value) + 2) / 8), Value: value},
		},
	}, target, allNodes)
	if err != nil {
		return nil, fmt.Errorf("encoding announcement: %w", err)
	}

	p := make([]byte, 0, ipv6HeaderLen+len(body))
	p = append(p, 6<<4, 0, 0, 0)
	p = binary.BigEndian.AppendUint16(p, uint16(len(body)))
	p = append(p, icmpv6, hopLimit)
	p = append(p, target.AsSlice()...)
	p = append(p, allNodes.AsSlice()...)
	return append(p, body...), nil
}

// Parse reads an announcement from a packet that begins with its IPv6 header. It
// trusts nothing: the packet must pass the checks of RFC 4861 §7.1.2, and the
// announcement must agree with the Neighbor Advertisement that carries it. The
// signature is for [Announcement.Verify] to check. The result shares no memory
// with the packet.
//
// The error is [ErrNoAnnouncement] if the Neighbor Advertisement is valid.
func Parse(packet []byte) (Announcement, error) {
	message, err := neighborAdvertisement(packet)
	if err != nil {
		return Announcement{}, fmt.Errorf("reading Neighbor Advertisement: %w", err)
	}
	mac, option, err := walkOptions(message[naHeaderLen:])
	if err != nil {
		return Announcement{}, fmt.Errorf("reading Neighbor Advertisement: %w", err)
	}
	if option == nil {
		return Announcement{}, ErrNoAnnouncement
	}
	a, err := parseOption(option)
	if err != nil {
		return Announcement{}, fmt.Errorf("reading announcement: %w", err)
	}
	target := netip.AddrFrom16([16]byte(message[8:naHeaderLen]))
	switch {
	case a.Target != target || !target.IsLinkLocalUnicast():
		return Announcement{}, fmt.Errorf("reading announcement: of %v in a Neighbor Advertisement for %v", a.Target, target)
	case mac != nil && !bytes.Equal(a.MAC, mac):
		return Announcement{}, fmt.Errorf("reading announcement: of %v in a Neighbor Advertisement for %x", a.MAC, mac)
	case a.Router != (message[4]&naRouter != 0):
		return Announcement{}, errors.New("reading announcement: its router flag is not that of the Neighbor Advertisement")
	}
	return a, nil
}

// neighborAdvertisement returns the ICMPv6 message of a packet that is a valid
// Neighbor Advertisement, apart from its options (RFC 4861 §7.1.2).
func neighborAdvertisement(p []byte) ([]byte, error) {
	if len(p) < ipv6HeaderLen+naHeaderLen {
		return nil, fmt.Errorf("%d bytes are too few", len(p))
	}
	payload := int(binary.BigEndian.Uint16(p[4:]))
	if p[0]>>4 != 6 || p[6] != icmpv6 {
		return nil, errors.New("not ICMPv6")
	}
	// What follows the payload is padding of the link.
	if payload < naHeaderLen || payload > len(p)-ipv6HeaderLen {
		return nil, fmt.Errorf("payload of %d bytes in a packet of %d", payload, len(p))
	}
	source := netip.AddrFrom16([16]byte(p[8:24]))
	destination := netip.AddrFrom16([16]byte(p[24:40]))
	m := p[ipv6HeaderLen : ipv6HeaderLen+payload]
	target := netip.AddrFrom16([16]byte(m[8:naHeaderLen]))

	switch {
	case p[7] != hopLimit:
		return nil, fmt.Errorf("hop limit %d instead of 255", p[7])
	case m[0] != naType || m[1] != 0:
		return nil, fmt.Errorf("ICMPv6 type %d code %d", m[0], m[1])
	case source.IsMulticast() || source.IsUnspecified():
		return nil, fmt.Errorf("source %v", source)
	case target.IsMulticast():
		return nil, fmt.Errorf("multicast target %v", target)
	case destination.IsMulticast() && m[4]&naSolicited != 0:
		return nil, errors.New("solicited, but sent to a group")
	case checksum(p[8:40], m) != 0:
		return nil, errors.New("wrong checksum")
	}
	return m, nil
}

// walkOptions returns the address in the first target link-layer address option
// and the first announcement, either nil if there is none. All options must be
// well-formed, whatever they are (RFC 4861 §4.6).
func walkOptions(options []byte) (mac, announcement []byte, err error) {
	for len(options) > 0 {
		if len(options) < 8 {
			return nil, nil, fmt.Errorf("%d bytes left over behind the options", len(options))
		}
		n := 8 * int(options[1])
		if n == 0 || n > len(options) {
			return nil, nil, fmt.Errorf("option %d of %d bytes where %d are left", options[0], n, len(options))
		}
		option := options[:n]
		options = options[n:]
		switch {
		case mac == nil && option[0] == targetLLA:
			// On links with longer addresses the option is longer (RFC 2464 §6
			// is for Ethernet); it then agrees with no announcement.
			mac = option[2:]
		case announcement == nil && isAnnouncement(option):
			announcement = option
		}
	}
	return mac, announcement, nil
}

// checksum returns the Internet checksum of an ICMPv6 message, whose own
// checksum field is part of the sum, so it is 0 if that is right (RFC 4443 §2.3,
// RFC 8200 §8.1). addresses are source and destination.
func checksum(addresses, message []byte) uint16 {
	sum := uint32(len(message)) + icmpv6
	for _, part := range [][]byte{addresses, message} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
