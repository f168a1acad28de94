package scan

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"
)

// probe is one question: what was sent, where, when and from which address.
type probe struct {
	via    Via
	round  int
	index  int // of the link
	source int // which of the link's sources
}

// The order of the kinds on the wire.
var probed = []Via{ViaEcho, ViaGroup, ViaHopByHop, ViaDestination, ViaUnicast}

// Every probe is an ICMPv6 Echo Request (RFC 4443 §4.1: type, code, checksum,
// identifier, sequence number), some behind an extension header. Its data comes
// back as it was, in an Echo Reply or in the quotation of a Parameter Problem: a
// nonce, which kind of probe it was, round and source, and the link's index.
const (
	icmpHeader  = 8
	nonceSize   = 12
	messageSize = icmpHeader + nonceSize + 8
)

// nonce tells the answers to our probes from those to others.
type nonce struct {
	id   uint16
	data [nonceSize]byte
	// anyID says that the kernel puts in an identifier of its own and compares it
	// when an answer comes: a datagram socket.
	anyID bool
}

// newNonce returns one that nobody can guess.
func newNonce() nonce {
	var b [2]byte
	var n nonce
	rand.Read(b[:]) // never fails
	rand.Read(n.data[:])
	n.id = binary.BigEndian.Uint16(b[:])
	return n
}

// request returns the message of a probe, with the checksum left to who sends it.
func (n nonce) request(p probe) []byte {
	b := make([]byte, icmpHeader, messageSize)
	b[0] = byte(ipv6.ICMPTypeEchoRequest)
	binary.BigEndian.PutUint16(b[4:], n.id)
	binary.BigEndian.PutUint16(b[6:], uint16(p.round))
	b = append(b, n.data[:]...)
	kind := 0
	for i, v := range probed {
		if v == p.via {
			kind = i
		}
	}
	b = append(b, byte(kind), byte(p.round), byte(p.source), 0)
	return binary.BigEndian.AppendUint32(b, uint32(p.index))
}

// parseReply says whether a message is the answer to one of our probes, and to
// which. The checksum has been checked.
func (n nonce) parseReply(b []byte) (probe, bool) {
	if len(b) != messageSize || b[0] != byte(ipv6.ICMPTypeEchoReply) || b[1] != 0 {
		return probe{}, false
	}
	if !n.anyID && binary.BigEndian.Uint16(b[4:]) != n.id {
		return probe{}, false
	}
	return n.parseData(b[icmpHeader:])
}

// parseData reads the data of a probe.
func (n nonce) parseData(b []byte) (probe, bool) {
	if len(b) < messageSize-icmpHeader || !bytes.Equal(b[:nonceSize], n.data[:]) {
		return probe{}, false
	}
	b = b[nonceSize:]
	if int(b[0]) >= len(probed) || int(b[1]) >= rounds {
		return probe{}, false
	}
	return probe{probed[b[0]], int(b[1]), int(binary.BigEndian.Uint32(b[4:])), int(b[2])}, true
}

// parseProblem says whether a message is a Parameter Problem (RFC 4443 §3.4) about
// an option of one of our probes. It quotes as much of the probe as there is room
// for: all of it, since a probe is small; a quotation that was cut off tells
// nothing.
func (n nonce) parseProblem(b []byte) (probe, bool) {
	const unrecognizedOption = 2 // code
	if len(b) < icmpHeader+ipv6Header || b[0] != byte(ipv6.ICMPTypeParameterProblem) || b[1] != unrecognizedOption {
		return probe{}, false
	}
	quoted := b[icmpHeader+ipv6Header:]
	// Behind an extension header of 8 bytes stands the echo.
	if len(quoted) < extension+messageSize || quoted[extension] != byte(ipv6.ICMPTypeEchoRequest) {
		return probe{}, false
	}
	return n.parseData(quoted[extension+icmpHeader:])
}

// Headers of a packet, in bytes, and the numbers in them.
const (
	ethernetHeader = 14
	ipv6Header     = 40 // RFC 8200 §3
	extension      = 8  // of a probe: one option of 4 bytes

	etherTypeIPv6  = 0x86dd // RFC 2464 §3
	nextHopByHop   = 0      // RFC 8200 §4.3
	nextICMPv6     = 58
	nextUDP        = 17
	nextDestOption = 60 // RFC 8200 §4.6

	// unknownOption is of an experimental type (RFC 4727 §5) whose first two bits say:
	// discard the packet and send a Parameter Problem, also if it went to a group
	// (RFC 8200 §4.2).
	unknownOption = 0x9e
)

var (
	allNodes = netip.MustParseAddr("ff02::1") // RFC 4291 §2.7.1
	// group is for any private experiment (IANA, IPv6 Multicast Address Space
	// Registry): nodes of rescue6 join it.
	group = netip.MustParseAddr("ff02::114")
)

// destination returns where probes of a kind go; unicast ones go to somebody.
func destination(v Via) netip.Addr {
	if v == ViaGroup {
		return group
	}
	return allNodes
}

// frame returns the whole Ethernet frame of a probe.
func (n nonce) frame(p probe, from, to netip.Addr, fromMAC, toMAC net.HardwareAddr) []byte {
	message := n.request(p)
	next := []byte{nextICMPv6}
	var header []byte
	switch p.via {
	case ViaHopByHop:
		next[0] = nextHopByHop
		header = []byte{nextICMPv6, 0, unknownOption, 4, n.data[0], n.data[1], n.data[2], n.data[3]}
	case ViaDestination:
		next[0] = nextDestOption
		header = []byte{nextICMPv6, 0, unknownOption, 4, n.data[0], n.data[1], n.data[2], n.data[3]}
	}
	const hopLimit = 255
	f := make([]byte, 0, ethernetHeader+ipv6Header+extension+messageSize)
	f = append(f, toMAC...)
	f = append(f, fromMAC...)
	f = binary.BigEndian.AppendUint16(f, etherTypeIPv6)
	f = append(f, 6<<4, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(header)+len(message)))
	f = append(f, next[0], hopLimit)
	f = append(f, from.AsSlice()...)
	f = append(f, to.AsSlice()...)
	binary.BigEndian.PutUint16(message[2:], checksum(f[ethernetHeader+8:ethernetHeader+ipv6Header], nextICMPv6, message))
	f = append(f, header...)
	return append(f, message...)
}

// groupMAC is where Ethernet sends packets for a group (RFC 2464 §7).
func groupMAC(to netip.Addr) net.HardwareAddr {
	b := to.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// checksum returns the Internet checksum of a message (RFC 8200 §8.1), 0 if the
// one that it carries is right. addresses are source and destination.
func checksum(addresses []byte, next uint32, message []byte) uint16 {
	sum := uint32(len(message)) + next
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
