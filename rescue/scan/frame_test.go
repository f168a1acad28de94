package scan

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	nodeMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 7}
	nodeAddr = netip.MustParseAddr("fe80::7")
	ownAddr  = netip.MustParseAddr("fe80::1")
)

// icmpFrame makes the frame of an ICMPv6 message, with its checksum.
func icmpFrame(from, to netip.Addr, hopLimit byte, message []byte) []byte {
	message = bytes.Clone(message)
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, nodeMAC...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(message)))
	f = append(f, nextICMPv6, hopLimit)
	f = append(f, from.AsSlice()...)
	f = append(f, to.AsSlice()...)
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[2:], checksum(f[22:54], nextICMPv6, message))
	return append(f, message...)
}

// reply is the answer to a probe.
func (n nonce) reply(p probe) []byte {
	m := n.request(p)
	m[0] = 129
	return m
}

// problem is a Parameter Problem about a probe.
func (n nonce) problem(p probe) []byte {
	frame := n.frame(p, ownAddr, allNodes, net.HardwareAddr{2, 0, 0, 0, 0, 1}, groupMAC(allNodes))
	return append([]byte{4, 2, 0, 0, 0, 0, 0, 42}, frame[ethernetHeader:]...)
}

func neighbour(kind byte, flags byte, target netip.Addr, options ...byte) []byte {
	m := append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
	return append(m, options...)
}

func TestParseFrame(t *testing.T) {
	n := newNonce()
	p := probe{ViaEcho, 1, 7, 2}
	hop := probe{ViaHopByHop, 0, 7, 0}
	good := icmpFrame(nodeAddr, ownAddr, 64, n.reply(p))
	change := func(f []byte, at int) []byte {
		f = bytes.Clone(f)
		f[at]++
		return f
	}
	target := netip.MustParseAddr("2001:db8::7")
	router := append([]byte{134, 0, 0, 0, 64, 0, 0, 9}, make([]byte, 8)...)
	for _, tt := range []struct {
		name  string
		frame []byte
		via   Via
		addr  netip.Addr
	}{
		{"an answer", good, ViaEcho, nodeAddr},
		{"with the link's padding", append(bytes.Clone(good), 0, 0, 0), ViaEcho, nodeAddr},
		{"cut off", good[:len(good)-1], "", netip.Addr{}},
		{"a wrong checksum", change(good, len(good)-1), "", netip.Addr{}},
		{"not IPv6", change(good, 13), "", netip.Addr{}},
		{"somebody else's", icmpFrame(nodeAddr, ownAddr, 64, newNonce().reply(p)), "", netip.Addr{}},
		{"our own request", icmpFrame(ownAddr, allNodes, 255, n.request(p)), "", netip.Addr{}},
		{"a round that there is not", icmpFrame(nodeAddr, ownAddr, 64, change(n.reply(p), icmpHeader+nonceSize+1)), "", netip.Addr{}},
		{"from a group", icmpFrame(allNodes, ownAddr, 64, n.reply(p)), "", netip.Addr{}},
		{"from nobody", icmpFrame(netip.IPv6Unspecified(), ownAddr, 64, n.reply(p)), "", netip.Addr{}},
		{"an objection", icmpFrame(nodeAddr, ownAddr, 64, n.problem(hop)), ViaHopByHop, nodeAddr},
		{"an objection, cut off", icmpFrame(nodeAddr, ownAddr, 64, n.problem(hop)[:80]), "", netip.Addr{}},
		{"an objection to somebody else", icmpFrame(nodeAddr, ownAddr, 64, newNonce().problem(hop)), "", netip.Addr{}},
		{"a router", icmpFrame(nodeAddr, allNodes, 255, router), ViaRA, nodeAddr},
		{"a router from afar", icmpFrame(nodeAddr, allNodes, 64, router), "", netip.Addr{}},
		{"a router's global address", icmpFrame(target, allNodes, 255, router), "", netip.Addr{}},
		{"a solicitation", icmpFrame(nodeAddr, allNodes, 255, neighbour(135, 0, target)), ViaNS, nodeAddr},
		{"duplicate address detection", icmpFrame(netip.IPv6Unspecified(), allNodes, 255, neighbour(135, 0, target)), "", netip.Addr{}},
		{"an advertisement", icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 0, target, 2, 1, 2, 0, 0, 0, 0, 9)), ViaNA, target},
		{"an option of no length", icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 0, target, 2, 0, 2, 0, 0, 0, 0, 9)), "", netip.Addr{}},
		{"an option that is too long", icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 0, target, 2, 9, 2, 0, 0, 0, 0, 9)), "", netip.Addr{}},
		{"of a group", icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 0, allNodes)), "", netip.Addr{}},
		{"solicited, to a group", icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 1<<6, target)), "", netip.Addr{}},
		{"solicited", icmpFrame(nodeAddr, ownAddr, 255, neighbour(136, 1<<6, target)), ViaNA, target},
		{"an MLD report", icmpFrame(nodeAddr, allNodes, 1, make([]byte, 8)), "", netip.Addr{}},
		{"nothing", nil, "", netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := n.parseFrame(tt.frame)
			if err != nil {
				h = heard{}
			}
			if h.via != tt.via || h.addr != tt.addr {
				t.Errorf("parseFrame = %s %v (%v), want %s %v", h.via, h.addr, err, tt.via, tt.addr)
			}
		})
	}
	h, _ := n.parseFrame(good)
	if h.probe != p || !bytes.Equal(h.mac[:], nodeMAC) {
		t.Errorf("parseFrame = %+v, want the answer to %+v from %s", h, p, nodeMAC)
	}
}

// Whatever a neighbour sends, only an answer with our nonce counts as one, and an
// address that is heard of can be one of a host's.
func FuzzParseFrame(f *testing.F) {
	n := newNonce()
	f.Add(icmpFrame(nodeAddr, ownAddr, 64, n.reply(probe{ViaEcho, 1, 7, 2})))
	f.Add(icmpFrame(nodeAddr, ownAddr, 64, n.problem(probe{ViaHopByHop, 0, 7, 0})))
	f.Add(icmpFrame(nodeAddr, allNodes, 255, neighbour(136, 0, ownAddr, 2, 1, 2, 0, 0, 0, 0, 9)))
	f.Add(icmpFrame(nodeAddr, allNodes, 255, neighbour(135, 0, ownAddr, 1, 1, 2, 0, 0, 0, 0, 9)))
	f.Add(mdnsFrame(mdnsAnswer("host.local.")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := n.parseFrame(b)
		if err != nil {
			return
		}
		if h.probe.via != "" && !bytes.Contains(b, n.data[:]) {
			t.Errorf("%x is taken for an answer", b)
		}
		if !h.addr.IsValid() || h.addr.IsMulticast() || h.addr.IsUnspecified() || h.mac[0]&1 != 0 || h.via == "" {
			t.Errorf("%x gives %+v", b, h)
		}
		for _, name := range h.names {
			checkName(t, name)
		}
	})
}

func checkName(t *testing.T, name string) {
	t.Helper()
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("the name %q", name)
	}
}

// mdnsAnswer is a message in which a host tells its name.
func mdnsAnswer(name string) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{Response: true},
		Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 120},
				Body: &dnsmessage.AAAAResource{AAAA: nodeAddr.As16()}},
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(reverseName(nodeAddr)), Class: dnsmessage.ClassINET, TTL: 120},
				Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("other.local.")}},
		},
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func mdnsFrame(message []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, mdnsPort)
	u = binary.BigEndian.AppendUint16(u, mdnsPort)
	u = binary.BigEndian.AppendUint16(u, uint16(8+len(message)))
	u = append(u, 0, 0)
	u = append(u, message...)
	f := append([]byte{0x33, 0x33, 0, 0, 0, 0xfb}, nodeMAC...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(u)))
	f = append(f, nextUDP, 255)
	f = append(f, nodeAddr.AsSlice()...)
	f = append(f, mdnsGroup.AsSlice()...)
	binary.BigEndian.PutUint16(u[6:], checksum(f[22:54], nextUDP, u))
	return append(f, u...)
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name    string
		message []byte
		want    []string
	}{
		{"address and reverse", mdnsAnswer("host.local."), []string{"host.local", "other.local"}},
		{"control characters", mdnsAnswer("\x1b[31mred\x07.local."), []string{"[31mred.local", "other.local"}},
		{"a question", browse(), nil},
		{"cut off", mdnsAnswer("host.local.")[:20], nil},
		{"nothing", nil, nil},
	} {
		if got := names(tt.message); !slices.Equal(got, tt.want) {
			t.Errorf("%s: names = %q, want %q", tt.name, got, tt.want)
		}
	}
	h, err := newNonce().parseFrame(mdnsFrame(mdnsAnswer("host.local.")))
	if err != nil || h.via != ViaMDNS || len(h.names) != 2 {
		t.Errorf("parseFrame = %+v, %v", h, err)
	}
}

func FuzzNames(f *testing.F) {
	f.Add(mdnsAnswer("host.local."))
	f.Add(browse())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		all := names(b)
		if len(all) > maxNames {
			t.Errorf("%d names", len(all))
		}
		for _, name := range all {
			checkName(t, name)
		}
	})
}

func FuzzParseARP(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f.Add(arpRequest(mac, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if mac, addr, ok := parseARP(b); ok && (len(mac) != 6 || !addr.Is4()) {
			t.Errorf("parseARP = %v, %v", mac, addr)
		}
	})
}

// What a MAC says unasked does not displace who has answered.
func TestConflict(t *testing.T) {
	p := place{2, nodeAddr}
	answered := answer{p, heard{mac: [6]byte{2, 0, 0, 0, 0, 7}, via: ViaEcho, probe: probe{via: ViaEcho}}, time.Now()}
	forged := answer{p, heard{mac: [6]byte{2, 6, 6, 6, 6, 6}, via: ViaNA}, time.Now()}
	for _, order := range [][]answer{{answered, forged}, {forged, answered}} {
		table := newTable()
		for _, a := range order {
			rtt := time.Duration(0)
			if a.probe.via != "" {
				rtt = time.Millisecond
			}
			table.note(a, rtt)
		}
		if k := table.seen[p]; !bytes.Equal(k.mac, nodeMAC) || !k.conflict {
			t.Errorf("after %s: %s, conflict %t", order[0].via, k.mac, k.conflict)
		}
	}
}
