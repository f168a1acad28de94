package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"rescue6/rescue/link/linktest"
)

// scanEnv tells this test binary to scan where it is, with a Config as JSON.
const scanEnv = "RESCUE6_TEST_SCAN"

// scanned is what it prints.
type scanned struct {
	Result
	Took time.Duration
	Last time.Duration // until the last host was seen

	CPU time.Duration `json:"-"` // of the process
	KiB int64         `json:"-"` // its memory, at most
}

func scanHere() int {
	var c Config
	var s scanned
	err := json.Unmarshal([]byte(os.Getenv(scanEnv)), &c)
	if err == nil {
		c.Links, err = Links(nil)
	}
	began := time.Now()
	c.Found = func(Host) { s.Last = time.Since(began) }
	if err == nil {
		s.Result, err = Run(context.Background(), c)
	}
	s.Took = time.Since(began)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// scanFrom scans in a namespace: in a process of its own, since the goroutines of
// this one are in others.
func scanFrom(t testing.TB, n *linktest.Namespace, c Config) scanned {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), scanEnv+"="+string(text))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	var s scanned
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	s.CPU = cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.KiB = usage.Maxrss
	}
	return s
}

// byMAC returns the host with a MAC, nil if it was not found.
func (r Result) byMAC(mac net.HardwareAddr) *Host {
	for i, h := range r.Hosts {
		if slices.Equal(h.MAC, mac) {
			return &r.Hosts[i]
		}
	}
	return nil
}

// multicasts counts the multicast frames that come out of a port until stop is
// called.
func multicasts(t testing.TB, n *linktest.Namespace, port string) (stop func() int) {
	t.Helper()
	var conn *packet.Conn
	if err := n.Do(func() error {
		ifi, err := net.InterfaceByName(port)
		if err != nil {
			return err
		}
		const all = 3 // ETH_P_ALL: the bridge takes a port's frames before others see them
		conn, err = packet.Listen(ifi, packet.Raw, all, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 2048)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				done <- n
				return
			}
			if a, ok := from.(*packet.Addr); ok && size > 14 && buf[0]&1 != 0 && slices.Equal(a.HardwareAddr, linktest.CrowdLaptop) {
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

// Hosts of each kind that there is are found, by what they cannot keep from
// answering.
func TestKindsOfHosts(t *testing.T) {
	c := linktest.NewCrowd(t)
	sh := func(n *linktest.Namespace, script string) {
		t.Helper()
		if out, err := n.Run(t.Context(), "sh", "-ec", script); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	kinds := []struct {
		name   string
		whole  bool
		script string
		via    Via
		addrs  int
	}{
		{"plain", true, "", ViaEcho, 3},
		{"link-local only", false, "", ViaEcho, 1},
		{"ignores echoes to groups", true, "sysctl -qw net.ipv6.icmp.echo_ignore_multicast=1", ViaHopByHop, 3},
		{"ignores all echoes", true, "sysctl -qw net.ipv6.icmp.echo_ignore_all=1", ViaHopByHop, 3},
		{"firewalled", true, `nft 'table ip6 f { chain i { type filter hook input priority 0; policy drop; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }; }'`, ViaHopByHop, 3},
		{"random identifiers", false, "sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=3; ip link set eth0 down; ip link set eth0 up", ViaEcho, 1},
		{"another prefix", false, "ip addr add 2001:db8:1::77:1/64 dev eth0 nodad; ip addr add 2001:db8:1::77:2/64 dev eth0 nodad", ViaEcho, 2},
		{"loses half of the multicasts", true, `nft 'table ip6 f { chain i { type filter hook prerouting priority -300; ip6 daddr ff02::1 numgen inc mod 2 == 0 drop; }; }'`, "", 3},
		{"routes", true, "sysctl -qw net.ipv6.conf.all.forwarding=1", ViaEcho, 3},
	}
	macs := make([]net.HardwareAddr, len(kinds))
	for i, k := range kinds {
		n, mac := c.Add(k.whole)
		macs[i] = mac
		sh(n, k.script)
		if _, err := n.LinkLocal(t.Context(), "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	off, offMAC := c.Add(false)
	sh(off, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1")

	r := scanFrom(t, c.Laptop, Config{})
	for i, k := range kinds {
		h := r.byMAC(macs[i])
		if h == nil {
			t.Errorf("%s: not found", k.name)
			continue
		}
		if len(h.Addresses) < k.addrs {
			t.Errorf("%s: addresses %v, want %d", k.name, h.Addresses, k.addrs)
		}
		if k.via != "" && !slices.Contains(h.Addresses[0].Via, k.via) {
			t.Errorf("%s: seen by %v, want %s", k.name, h.Addresses[0].Via, k.via)
		}
	}
	if h := r.byMAC(offMAC); h != nil {
		t.Errorf("a host without IPv6 was found: %+v", h)
	}
	if self := r.byMAC(linktest.CrowdLaptop); self == nil || !self.Self || len(self.Addresses) != 3 {
		t.Errorf("this machine: %+v", self)
	}
	if r.Partial || r.Dropped != 0 || r.Unasked != 0 || len(r.Hosts) != len(kinds)+1 {
		t.Errorf("%d hosts, partial %t, dropped %d, unasked %d", len(r.Hosts), r.Partial, r.Dropped, r.Unasked)
	}
}

// A large link is seen whole, by few frames.
func TestLargeCrowd(t *testing.T) {
	const perNode = 3
	nodes := min(200, linktest.CrowdRoom(t))
	c := linktest.NewCrowd(t)
	for range nodes {
		c.Add(true)
	}
	stop := multicasts(t, c.Bridge, "laptop")
	r := scanFrom(t, c.Laptop, Config{Timeout: 20 * time.Second})
	frames := stop()
	hosts, addrs := 0, 0
	for _, h := range r.Hosts {
		if !h.Self {
			hosts++
			addrs += len(h.Addresses)
		}
	}
	t.Logf("%d hosts, %d addresses in %v; the last host after %v; %d multicast frames", hosts, addrs, r.Took, r.Last, frames)
	if hosts != nodes || addrs != nodes*perNode {
		t.Errorf("%d hosts with %d addresses, want %d with %d", hosts, addrs, nodes, nodes*perNode)
	}
	if frames > 30 {
		t.Errorf("%d multicast frames, want 30 at most", frames)
	}
}

// Who floods the link with answers costs bounded memory, and it is said.
func TestForgedAnswers(t *testing.T) {
	table := newTable()
	table.names[2] = "eth0"
	a := answer{place: place{index: 2}, heard: heard{via: ViaNA, mac: [6]byte{2, 0, 0, 0, 0, 1}}, at: time.Now()}
	b := nodeAddr.As16()
	for i := range maxSightings + 100 {
		b[12], b[13], b[14] = byte(i), byte(i>>8), byte(i>>16)
		a.place.addr = netip.AddrFrom16(b)
		table.note(a, 0)
	}
	if len(table.seen) != maxSightings || table.dropped != 100 {
		t.Errorf("%d kept, %d dropped", len(table.seen), table.dropped)
	}
	if hosts := table.hosts(nil); len(hosts) != 1 || !strings.HasPrefix(hosts[0].Addresses[0].Addr.String(), "fe80::") {
		t.Errorf("%d hosts", len(hosts))
	}
}
