package link

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attr returns one attribute, padded.
func attr(t int, value ...byte) []byte { return nl.NewRtAttr(t, value).Serialize() }

func nest(t int, attrs ...[]byte) []byte {
	var all []byte
	for _, a := range attrs {
		all = append(all, a...)
	}
	return attr(t|unix.NLA_F_NESTED, all...)
}

func cat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

var (
	linkHeader  = make([]byte, unix.SizeofIfInfomsg)
	addrHeader  = []byte{unix.AF_INET6, 64, 0, 0, 5, 0, 0, 0}
	routeHeader = make([]byte, unix.SizeofRtMsg)
)

// A kernel that sends nonsense gets an error or an empty field, never a panic:
// the Pi's network must not depend on it.
func TestParseNonsense(t *testing.T) {
	for _, tt := range []struct {
		name string
		msg  []byte
	}{
		{"nothing", nil},
		{"half a header", make([]byte, 5)},
		{"attribute longer than the message", cat(linkHeader, []byte{200, 0, unix.IFLA_IFNAME, 0, 'x'})},
		{"attribute of length 0", cat(linkHeader, []byte{0, 0, unix.IFLA_IFNAME, 0, 'x', 0, 0, 0})},
		{"attribute without its padding", cat(linkHeader, []byte{5, 0, unix.IFLA_IFNAME, 0, 'x'})},
		{"empty values", cat(linkHeader, attr(unix.IFLA_IFNAME), attr(unix.IFLA_ADDRESS), attr(unix.IFLA_MASTER),
			nest(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND)),
			nest(unix.IFLA_AF_SPEC, nest(unix.AF_INET6, attr(unix.IFLA_INET6_CONF), attr(unix.IFLA_INET6_ADDR_GEN_MODE))))},
		{"address of 3 bytes", cat(addrHeader, attr(unix.IFA_ADDRESS, 1, 2, 3))},
		{"prefix of 200 bits", cat([]byte{unix.AF_INET6, 200}, addrHeader[2:], attr(unix.IFA_ADDRESS, make([]byte, 16)...))},
		{"next hop longer than the route", cat(routeHeader, attr(unix.RTA_MULTIPATH, 255, 255, 0, 0, 1, 0, 0, 0))},
		{"next hop of length 0", cat(routeHeader, attr(unix.RTA_MULTIPATH, 0, 0, 0, 0, 1, 0, 0, 0))},
		{"via of one byte", cat(routeHeader, attr(unix.RTA_VIA, 2))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if l, err := parseLink(tt.msg); err == nil && len(l.Name) > 1 {
				t.Errorf("parseLink made up a name: %+v", l)
			}
			if _, a, err := parseAddress(tt.msg); err == nil && !a.Prefix.IsValid() {
				t.Errorf("parseAddress returned an invalid address without an error: %+v", a)
			}
			hops, _ := parseDefaultRoute(tt.msg)
			for _, h := range hops {
				if !h.gateway.IsValid() {
					t.Errorf("parseDefaultRoute returned no gateway: %+v", h)
				}
			}
		})
	}
}

// Real messages, cut short and with bits turned over, never make a parser panic.
func TestParseDamaged(t *testing.T) {
	var msgs [][]byte
	for _, request := range []int{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETROUTE} {
		m, err := dump(request, nl.NewIfInfomsg(unix.AF_UNSPEC))
		if err != nil {
			t.Fatal(err)
		}
		msgs = append(msgs, m...)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	parse := func(m []byte) {
		_, _ = parseLink(m)
		_, _, _ = parseAddress(m)
		_, _ = parseDefaultRoute(m)
	}
	for _, m := range msgs {
		for n := range m {
			parse(m[:n:n])
			damaged := append([]byte(nil), m...)
			damaged[n] ^= byte(1 << rnd.IntN(8))
			damaged[rnd.IntN(len(m))] = byte(rnd.Uint32())
			parse(damaged)
		}
	}
}

// The kernel has two ways to say where a point-to-point address is.
func TestParseAddressPeer(t *testing.T) {
	own, peer := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	index, a, err := parseAddress(cat(addrHeader,
		attr(unix.IFA_ADDRESS, peer.AsSlice()...), attr(unix.IFA_LOCAL, own.AsSlice()...),
		attr(unix.IFA_FLAGS, unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED, 0, 0, 0)))
	want := Address{Prefix: netip.PrefixFrom(own, 64), Tentative: true, DADFailed: true}
	if err != nil || index != 5 || a != want {
		t.Errorf("parseAddress = %d, %+v, %v; want 5, %+v", index, a, err, want)
	}
}

func TestEncap(t *testing.T) {
	for arphrd, want := range map[uint16]string{
		unix.ARPHRD_ETHER: "ether", unix.ARPHRD_LOOPBACK: "loopback", unix.ARPHRD_NONE: "none",
		unix.ARPHRD_PPP: "ppp", unix.ARPHRD_CAN: "can", 4711: "[4711]",
	} {
		t.Run(fmt.Sprint(arphrd), func(t *testing.T) {
			if got := encap(arphrd); got != want {
				t.Errorf("encap(%d) = %q, want %q", arphrd, got, want)
			}
		})
	}
}

func TestUsable(t *testing.T) {
	for _, tt := range []struct {
		a    Address
		want bool
	}{
		{Address{}, true},
		{Address{Tentative: true}, false},
		{Address{Tentative: true, DADFailed: true}, false},
		{Address{DADFailed: true}, false},
	} {
		if got := tt.a.Usable(); got != tt.want {
			t.Errorf("%+v: Usable is %t, want %t", tt.a, got, tt.want)
		}
	}
}
