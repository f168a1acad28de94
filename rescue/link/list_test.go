package link

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rescue6/rescue/link/linktest"
)

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// List shows what iproute2 and /proc/sys show, for each kind of link that can be
// made anywhere.
func TestListAgreesWithIP(t *testing.T) {
	n, other := linktest.ForTest(t, "n"), linktest.ForTest(t, "other")
	err := errors.Join(
		linktest.Veth(n, "eth0", other, "eth0"), // a cable to another namespace
		linktest.Veth(n, "eth0.7", n, "b"),      // a name that sysctl(8) cannot say
		linktest.Veth(n, "port", other, "port"), // a port of a bridge
		linktest.Veth(n, "quiet", n, "c"),       // no address, never raised
		linktest.Veth(n, "no6", n, "d"),         // IPv6 switched off
		linktest.Veth(n, "small", n, "e"),       // too small for IPv6
		n.Bridge("br0"),
		n.Attach("br0", "port"),
		n.Sysctl("net/ipv6/conf/no6/disable_ipv6", "1"),
		n.Sysctl("net/ipv6/conf/eth0/forwarding", "1"),
		n.Sysctl("net/ipv6/conf/quiet/addr_gen_mode", "3"),
		n.SetUp("eth0", "eth0.7", "no6", "small"),
		other.SetUp("eth0"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"link set dev small mtu 1000",
		"addr add 192.0.2.1/24 dev eth0",
		"addr add 192.0.2.2/24 dev eth0",
		"addr add 10.0.0.1 peer 10.0.0.2/32 dev eth0",
		"addr add 2001:db8::1/48 dev eth0",
		"addr add 2001:db8:1::1 peer 2001:db8:1::2/128 dev eth0",
		"route add default via 192.0.2.254",
		"route add default via 192.0.2.253 metric 100",
		"-4 route add default via inet6 fe80::1 dev eth0 metric 200",
		"route add default via 192.0.2.252 table 7",
		"route add blackhole default metric 300",
		"route add 198.51.100.0/24 via 192.0.2.250",
	} {
		ip(t, n, strings.Fields(args)...)
	}
	if _, err := n.LinkLocal(t.Context(), "eth0"); err != nil {
		t.Fatal(err)
	}

	opts := gocmp.Options{
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
		cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b Address) bool { return a.Prefix.String() < b.Prefix.String() }),
	}
	// DAD may change the state between the two readings, though not for long.
	var diff string
	err = n.WaitFor(t.Context(), "List to agree with ip -j", func() (bool, error) {
		diff = gocmp.Diff(byIP(t, n), list(t, n), opts)
		return diff == "", nil
	})
	if err != nil {
		t.Errorf("%v (-ip +List):\n%s", err, diff)
	}

	// That both agree says little if there was nothing to see.
	eth0 := get(t, n, "eth0")
	if !eth0.PeerNamespace || !eth0.Carrier || !eth0.Forwarding || len(eth0.Gateways4) != 3 || len(eth0.LinkLocal()) != 1 {
		t.Errorf("eth0 is not as it was made: %+v", eth0)
	}
	if l := get(t, n, "port"); l.Master != get(t, n, "br0").Index || l.AddrGenMode != AddrGenNone {
		t.Errorf("port is not as it was made: %+v", l)
	}
	if l := get(t, n, "eth0.7"); l.PeerNamespace || l.Carrier || !l.Up {
		t.Errorf("eth0.7 is not as it was made: %+v", l)
	}
	for name, want := range map[string]bool{"no6": true, "small": true, "quiet": false} {
		if l := get(t, n, name); l.IPv6Disabled != want {
			t.Errorf("%s: IPv6Disabled is %t, want %t", name, l.IPv6Disabled, want)
		}
	}
	if l := get(t, n, "lo"); l.Kind != "" || l.Encap != "loopback" || l.MAC != nil {
		t.Errorf("lo is not as it should be: %+v", l)
	}
}

// Two ways out in one route are two gateways, each on its link.
func TestListMultipath(t *testing.T) {
	n := linktest.ForTest(t, "n")
	err := errors.Join(linktest.Veth(n, "a", n, "b"), n.SetUp("a", "b"),
		n.AddAddress("a", netip.MustParsePrefix("192.0.2.1/24")),
		n.AddAddress("b", netip.MustParsePrefix("198.51.100.1/24")))
	if err != nil {
		t.Fatal(err)
	}
	ip(t, n, strings.Fields("route add default nexthop via 192.0.2.254 nexthop via inet6 fe80::1 dev b")...)
	for name, want := range map[string]string{"a": "192.0.2.254", "b": "fe80::1"} {
		got := get(t, n, name).Gateways4
		if !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("gateways of %s: %v, want %s", name, got, want)
		}
	}
}

// list calls List inside a namespace.
func list(t *testing.T, n *linktest.Namespace) []Link {
	t.Helper()
	var links []Link
	err := n.Do(func() (err error) {
		links, err = List()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return links
}

func get(t *testing.T, n *linktest.Namespace, name string) Link {
	t.Helper()
	links := list(t, n)
	i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		t.Fatalf("there is no link %s", name)
	}
	return links[i]
}

// ip runs iproute2.
func ip(t *testing.T, n *linktest.Namespace, args ...string) []byte {
	t.Helper()
	out, err := n.Run(t.Context(), "ip", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// byIP returns what iproute2 and /proc/sys say about all links.
func byIP(t *testing.T, n *linktest.Namespace) []Link {
	t.Helper()
	var shown []struct {
		Ifindex     int
		Ifname      string
		Flags       []string
		LinkType    string `json:"link_type"`
		Address     string
		Master      string
		LinkNetnsid *int `json:"link_netnsid"`
		Linkinfo    struct {
			Kind string `json:"info_kind"`
		}
		AddrInfo []struct {
			Family, Local        string
			Prefixlen            int
			Tentative, Dadfailed bool
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(ip(t, n, "-j", "-d", "addr"), &shown); err != nil {
		t.Fatal(err)
	}
	var details []struct {
		Ifname      string
		AddrGenMode string `json:"inet6_addr_gen_mode"`
	}
	if err := json.Unmarshal(ip(t, n, "-j", "-d", "link"), &details); err != nil {
		t.Fatal(err)
	}
	mode := map[string]AddrGenMode{}
	for _, d := range details {
		mode[d.Ifname] = map[string]AddrGenMode{"eui64": 0, "none": 1, "stable_secret": 2, "random": 3}[d.AddrGenMode]
	}
	index := map[string]int{}
	for _, s := range shown {
		index[s.Ifname] = s.Ifindex
	}
	gateways := gatewaysByIP(t, n)

	var links []Link
	for _, s := range shown {
		l := Link{
			Index: s.Ifindex, Name: s.Ifname, Kind: s.Linkinfo.Kind, Encap: s.LinkType, Master: index[s.Master],
			Up: slices.Contains(s.Flags, "UP"), Carrier: slices.Contains(s.Flags, "LOWER_UP"),
			PeerNamespace: s.LinkNetnsid != nil,
			AddrGenMode:   mode[s.Ifname],
			Gateways4:     gateways[s.Ifname],
		}
		if mac, err := net.ParseMAC(s.Address); err == nil && s.Ifname != "lo" {
			l.MAC = mac
		}
		l.IPv6Disabled = sysctl(t, n, s.Ifname, "disable_ipv6") != 0
		l.Forwarding = sysctl(t, n, s.Ifname, "forwarding") == 1
		for _, a := range s.AddrInfo {
			addr := Address{
				Prefix:    netip.PrefixFrom(netip.MustParseAddr(a.Local), a.Prefixlen),
				Tentative: a.Tentative, DADFailed: a.Dadfailed,
			}
			if a.Family == "inet" {
				l.IPv4 = append(l.IPv4, addr)
			} else {
				l.IPv6 = append(l.IPv6, addr)
			}
		}
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	return links
}

func gatewaysByIP(t *testing.T, n *linktest.Namespace) map[string][]netip.Addr {
	t.Helper()
	var routes []struct {
		Type, Dev, Gateway string
		Via                struct{ Host string }
	}
	if err := json.Unmarshal(ip(t, n, "-4", "-j", "-d", "route", "show", "default"), &routes); err != nil {
		t.Fatal(err)
	}
	all := map[string][]netip.Addr{}
	for _, r := range routes {
		if a, err := netip.ParseAddr(cmp.Or(r.Gateway, r.Via.Host)); err == nil && r.Type == "unicast" {
			all[r.Dev] = append(all[r.Dev], a)
		}
	}
	return all
}

// sysctl reads a setting of a link with cat; -1 is one that is not there.
func sysctl(t *testing.T, n *linktest.Namespace, link, name string) int {
	t.Helper()
	out, err := n.Run(t.Context(), "cat", "/proc/sys/net/ipv6/conf/"+link+"/"+name)
	if err != nil && strings.Contains(err.Error(), "No such file") {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
