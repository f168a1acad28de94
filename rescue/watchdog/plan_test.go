package watchdog

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rescue6/rescue/link"
)

var (
	label = netip.MustParseAddr("fe80::cafe:cafe:cafe:cafe")
	eui64 = netip.MustParseAddr("fe80::ba27:ebff:fe12:3456")
	mac   = net.HardwareAddr{0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56}
)

func addr(a netip.Addr) link.Address { return link.Address{Prefix: netip.PrefixFrom(a, 64)} }

func tentative(a netip.Addr) link.Address {
	return link.Address{Prefix: netip.PrefixFrom(a, 64), Tentative: true}
}

func failed(a netip.Addr) link.Address {
	return link.Address{Prefix: netip.PrefixFrom(a, 64), Tentative: true, DADFailed: true}
}

// good returns a link on which all is well, with addresses in place of its own.
func good(addrs ...link.Address) link.Link {
	if addrs == nil {
		addrs = []link.Address{addr(eui64), addr(label)}
	}
	return link.Link{Index: 2, Name: "eth0", MAC: mac, Encap: "ether", Up: true, Carrier: true, IPv6: addrs}
}

func TestPlan(t *testing.T) {
	other := addr(netip.MustParseAddr("fe80::1"))
	for _, tt := range []struct {
		name string
		link link.Link
		want []Action
	}{
		{"all is well", good(), nil},
		{"link down, and nothing else can be done yet", with(good(other), func(l *link.Link) { l.Up, l.Carrier = false, false }), []Action{SetUp}},
		{"no carrier is no fault", with(good(other), func(l *link.Link) { l.Carrier = false }), nil},
		{"IPv6 off", with(good(other), func(l *link.Link) { l.IPv6Disabled = true }), []Action{EnableIPv6}},
		{"IPv6 off on a link that is down", with(good(other), func(l *link.Link) { l.Up, l.IPv6Disabled = false, true }), []Action{SetUp, EnableIPv6}},
		{"addr_gen_mode none", with(good(other), func(l *link.Link) { l.AddrGenMode = 1 }), []Action{EnableEUI64, AddAddress, AddAddress}},
		{"no address at all", with(good(other), func(l *link.Link) { l.IPv6 = nil }), []Action{AddAddress, AddAddress}},
		{"label missing", good(addr(eui64)), []Action{AddAddress}},
		{"addresses in DAD are left alone", good(tentative(eui64), tentative(label)), nil},
		{"label claimed by a neighbour", good(addr(eui64), failed(label)), []Action{DeleteAddress}},
		{"EUI-64 claimed by a neighbour", good(failed(eui64), addr(label)), []Action{DeleteAddress}},
		{"everything claimed: the label is forced", good(failed(eui64), failed(label)), []Action{ReplaceAddress, ForceAddress}},
		{"everything of ours claimed, another works", good(failed(eui64), failed(label), other), []Action{DeleteAddress, DeleteAddress}},
		{"a MAC that gives no EUI-64", with(good(addr(label)), func(l *link.Link) { l.MAC = make(net.HardwareAddr, 20) }), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []Action
			for _, r := range (Policy{Label: label}).Plan(tt.link) {
				got = append(got, r.Action)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("Plan (-want +got):\n%s", d)
			}
		})
	}
}

func with(l link.Link, f func(*link.Link)) link.Link {
	f(&l)
	return l
}

func TestServes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy Policy
		link   link.Link
		want   bool
	}{
		{"Ethernet", Policy{}, link.Link{Name: "eth0", Encap: "ether"}, true},
		{"VLAN", Policy{}, link.Link{Name: "eth0.5", Encap: "ether", Kind: "vlan"}, true},
		{"bridge", Policy{}, link.Link{Name: "br0", Encap: "ether", Kind: "bridge"}, true},
		{"port of a bridge", Policy{}, link.Link{Name: "eth0", Encap: "ether", Master: 3}, false},
		{"loopback", Policy{}, link.Link{Name: "lo", Encap: "loopback"}, false},
		{"tunnel", Policy{}, link.Link{Name: "sit0", Encap: "sit", Kind: "sit"}, false},
		{"WireGuard", Policy{}, link.Link{Name: "wg0", Encap: "none", Kind: "wireguard"}, false},
		{"dummy", Policy{}, link.Link{Name: "dummy0", Encap: "ether", Kind: "dummy"}, false},
		{"host side of a container", Policy{Host: true}, link.Link{Name: "vethx", Encap: "ether", Kind: "veth"}, false},
		{"inside a container", Policy{}, link.Link{Name: "eth0", Encap: "ether", Kind: "veth"}, true},
		{"excluded", Policy{Exclude: []string{"eth1"}}, link.Link{Name: "eth1", Encap: "ether"}, false},
	} {
		got, why := tt.policy.Serves(tt.link)
		if got != tt.want || got == (why != "") {
			t.Errorf("%s: Serves = %v, %q, want %v", tt.name, got, why, tt.want)
		}
	}
}
