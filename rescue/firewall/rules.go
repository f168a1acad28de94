package firewall

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The ICMPv6 types that the rescue path needs (RFC 4443 §4, RFC 4861 §4).
const (
	echoRequest           = 128
	echoReply             = 129
	neighbourSolicit      = 135
	neighbourAdvertise    = 136
	linkLocalHopLimit     = 255 // of all neighbour discovery (RFC 4861 §7.1)
	offsetHopLimit        = 7   // in the IPv6 header (RFC 8200 §3)
	offsetSource          = 8
	offsetDestination     = 24
	offsetSourcePort      = 0 // in the TCP header (RFC 9293 §3.1)
	offsetDestinationPort = 2
)

// rules returns the accept rules for a way: SSH on link-local addresses, neighbour
// discovery, and echoes.
func (s side) rules(port int) [][]expr.Any {
	address, tcpPort, echo := offsetDestination, offsetDestinationPort, byte(echoRequest)
	if s == out {
		address, tcpPort, echo = offsetSource, offsetSourcePort, byte(echoReply)
	}
	return [][]expr.Any{
		accept(linkLocal(address), protocol(unix.IPPROTO_TCP), transport(tcpPort, binary.BigEndian.AppendUint16(nil, uint16(port)))),
		accept(header(offsetHopLimit, linkLocalHopLimit), protocol(unix.IPPROTO_ICMPV6), types(neighbourSolicit, neighbourAdvertise)),
		accept(protocol(unix.IPPROTO_ICMPV6), types(echo, echo)),
	}
}

// accept is a rule: IPv6, all of the matches, accept.
func accept(matches ...[]expr.Any) []expr.Any {
	all := ipv6()
	for _, m := range matches {
		all = append(all, m...)
	}
	return append(all, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
}

func ipv6() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal(unix.NFPROTO_IPV6)}
}

// linkLocal matches fe80::/10 (RFC 4291 §2.5.6) at an offset of the IPv6 header.
func linkLocal(offset int) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(offset), Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
		equal(0xfe, 0x80),
	}
}

// header matches one byte of the IPv6 header.
func header(offset int, value byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(offset), Len: 1},
		equal(value),
	}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal(p)}
}

func transport(offset int, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: uint32(offset), Len: uint32(len(value))},
		equal(value...),
	}
}

// types matches ICMPv6 types.
func types(from, to byte) []expr.Any {
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}
	if from == to {
		return []expr.Any{load, equal(from)}
	}
	return []expr.Any{load, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{from}, ToData: []byte{to}}}
}

func equal(value ...byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}
}
