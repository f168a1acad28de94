package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"rescue6/rescue/link/linktest"
)

// tools are those that people use to see who is on a link, as Debian has them.
var tools = []struct{ name, line string }{
	{"rescue-find", "rescue find --json"},
	{"alive6", "atk6-alive6 eth0"},
	{"scan6", "scan6 -L -e -i eth0"},
	{"nmap-echo", "nmap -6 -e eth0 --script targets-ipv6-multicast-echo --script-args interface=eth0"},
	{"nmap-echo-dst-mld", "nmap -6 -e eth0 --script targets-ipv6-multicast-echo,targets-ipv6-multicast-invalid-dst,targets-ipv6-multicast-mld --script-args interface=eth0"},
}

// BenchmarkFind is how long each takes, what it finds and what it sends, one after
// the other on the same links.
func BenchmarkFind(b *testing.B) {
	bin := b.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "rescue"), ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	room := linktest.CrowdRoom(b)
	for _, crowd := range []struct {
		name  string
		nodes int
		whole bool
	}{{"20 nodes", 20, true}, {"200 nodes", min(200, room), true}, {"20 nodes, link-local only", 20, false}, {"nobody", 0, false}} {
		b.Run(crowd.name, func(b *testing.B) {
			c := linktest.NewCrowd(b)
			for range crowd.nodes {
				c.Add(crowd.whole)
			}
			for _, tool := range tools {
				b.Run(tool.name, func(b *testing.B) {
					for b.Loop() {
						benchTool(b, c, bin, tool.line)
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		})
	}
}

// benchTool runs a tool once on a link on which nobody knows anybody.
func benchTool(b *testing.B, c *linktest.Crowd, bin, line string) {
	b.Helper()
	if out, err := c.Laptop.Run(b.Context(), "ip", "-6", "neigh", "flush", "dev", "eth0"); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	frames := countFrames(b, c)
	var out bytes.Buffer
	cmd := exec.CommandContext(b.Context(), "sh", "-c", line)
	cmd.Env = []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + b.TempDir()}
	cmd.Stdout = &out
	began := time.Now()
	if err := c.Laptop.Start(cmd); err != nil {
		b.Fatal(err)
	}
	_ = cmd.Wait() // each has statuses of its own
	took := time.Since(began)
	hosts, addrs := foundIn(out.String())
	b.ReportMetric(took.Seconds(), "s")
	b.ReportMetric(float64(hosts), "hosts")
	b.ReportMetric(float64(addrs), "addresses")
	b.ReportMetric(float64(frames()), "multicasts")
}

// foundIn counts the nodes of a crowd, and their addresses, in what a tool prints.
func foundIn(text string) (hosts, addrs int) {
	nodes, seen := map[string]bool{}, map[netip.Addr]bool{}
	for _, word := range regexp.MustCompile(`[0-9a-f:]*::?[0-9a-f:]+`).FindAllString(strings.ToLower(text), -1) {
		a, err := netip.ParseAddr(word)
		if err != nil || seen[a] {
			continue
		}
		// A node's number is the end of each of its addresses.
		b := a.As16()
		number := fmt.Sprint(b[14], b[15])
		ours := a.IsLinkLocalUnicast() && slices.Equal(b[8:14], []byte{0, 0, 0, 0xff, 0xfe, 0}) ||
			slices.ContainsFunc(linktest.CrowdPrefixes, func(p netip.Prefix) bool { return p.Contains(a) }) && a != laptopOf(a)
		if ours && b[15] != 0 {
			seen[a], nodes[number] = true, true
		}
	}
	return len(nodes), len(seen)
}

// laptopOf returns the laptop's address of the same prefix.
func laptopOf(a netip.Addr) netip.Addr {
	b := a.As16()
	b[14], b[15] = 0xff, 0xff
	return netip.AddrFrom16(b)
}

// countFrames counts the multicast frames that the laptop sends, until the function
// that it returns is called.
func countFrames(b *testing.B, c *linktest.Crowd) func() int {
	b.Helper()
	var conn *packet.Conn
	if err := c.Bridge.Do(func() error {
		ifi, err := net.InterfaceByName("laptop")
		if err != nil {
			return err
		}
		const all = 3 // ETH_P_ALL
		conn, err = packet.Listen(ifi, packet.Raw, all, nil)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	done := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 2048)
		for {
			size, _, err := conn.ReadFrom(buf)
			if err != nil {
				done <- n
				return
			}
			if size > 14 && buf[0]&1 != 0 && bytes.Equal(buf[6:12], linktest.CrowdLaptop) {
				n++
			}
		}
	}()
	return func() int {
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n := <-done
		conn.Close()
		return n
	}
}
