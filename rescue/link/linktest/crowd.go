package linktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Crowd is a switch with a laptop on it, and any number of nodes. The laptop has an
// address of each of [CrowdPrefixes] and a link-local one.
//
// Nodes reach the laptop only: all their machines are one, whose queue of 1000
// packets (net.core.netdev_max_backlog) would not take what a switch of many ports
// floods to all.
type Crowd struct {
	Bridge, Laptop *Namespace
	t              TB
	nodes          int
}

// CrowdRoom returns how many nodes with an address of each scope a crowd may have.
// All namespaces of a machine share one neighbour table, and each node takes six
// entries of it: so this makes room, where this process may, until the test ends.
func CrowdRoom(t TB) int {
	t.Helper()
	const perNode, wanted = 9, 8192
	dir := "/proc/sys/net/ipv6/neigh/default/"
	room := 1024 // the kernel's default, seen from a namespace in which it is not shown
	if b, err := os.ReadFile(dir + "gc_thresh3"); err == nil {
		room, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if room >= wanted {
		return room / perNode
	}
	for _, name := range []string{"gc_thresh3", "gc_thresh2"} {
		before, err := os.ReadFile(dir + name)
		if err != nil || os.WriteFile(dir+name, []byte(strconv.Itoa(wanted)), 0) != nil {
			return room / perNode
		}
		t.Cleanup(func() { _ = os.WriteFile(dir+name, before, 0) })
	}
	return wanted / perNode
}

// CrowdPrefixes are on the link of a crowd: a global one (RFC 3849) and a private
// one (RFC 4193).
var CrowdPrefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("fd00:1::/64")}

// CrowdLaptop is the laptop's MAC address.
var CrowdLaptop = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}

// NewCrowd makes a crowd without nodes, that goes with the test.
func NewCrowd(t TB) *Crowd {
	t.Helper()
	c := &Crowd{Bridge: ForTest(t, "bridge"), t: t}
	c.check(errors.Join(c.Bridge.Bridge("br0"), c.Bridge.Sysctl("net/ipv6/conf/br0/disable_ipv6", "1")))
	c.Laptop = ForTest(t, "laptop")
	c.plug(c.Laptop, "laptop", CrowdLaptop)
	c.address(c.Laptop, 0xffff)
	c.linkLocal(c.Laptop)
	return c
}

func (c *Crowd) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// plug puts a cable between the switch and a node.
func (c *Crowd) plug(n *Namespace, port string, mac net.HardwareAddr) {
	c.t.Helper()
	c.check(Veth(c.Bridge, port, n, "eth0"))
	c.check(errors.Join(n.SetMAC("eth0", mac), c.Bridge.Attach("br0", port), n.Sysctl("net/ipv6/conf/eth0/dad_transmits", "0"), n.SetUp("eth0")))
}

// address gives a node an address of each prefix.
func (c *Crowd) address(n *Namespace, number uint16) {
	c.t.Helper()
	for _, p := range CrowdPrefixes {
		a := p.Addr().As16()
		a[14], a[15] = byte(number>>8), byte(number)
		c.check(n.AddAddress("eth0", netip.PrefixFrom(netip.AddrFrom16(a), p.Bits())))
	}
}

func (c *Crowd) linkLocal(n *Namespace) {
	c.t.Helper()
	_, err := n.LinkLocal(context.Background(), "eth0")
	c.check(err)
}

// Add adds a node and returns it with its MAC address. It has a link-local address
// and one of each of these prefixes if whole is true.
func (c *Crowd) Add(whole bool) (*Namespace, net.HardwareAddr) {
	c.t.Helper()
	c.nodes++
	n := ForTest(c.t, fmt.Sprint("node", c.nodes))
	mac := net.HardwareAddr{2, 0, 0, 0, byte(c.nodes >> 8), byte(c.nodes)}
	port := fmt.Sprint("port", c.nodes)
	c.plug(n, port, mac)
	c.check(c.Bridge.Isolate(port))
	// All nodes share one ICMPv6 socket per CPU, too, which holds 159 answers at a
	// time: they take turns on the first two.
	mask := fmt.Sprint(1 + c.nodes%2)
	_, _ = n.Run(context.Background(), "unshare", "-m", "sh", "-ec", "mount -t sysfs sys /sys; echo "+mask+" > /sys/class/net/eth0/queues/rx-0/rps_cpus")
	if whole {
		c.address(n, uint16(c.nodes))
	}
	c.linkLocal(n)
	return n, mac
}
