package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"rescue6/gokrazy"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
	"rescue6/rescue/link/linktest"
	"rescue6/rescue/scan"
)

// programs returns a directory with rescued and rescue-session.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rescue6-test-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir, "rescue6/cmd/rescued", "rescue6/cmd/rescue-session")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building rescued: %w\n%s", err, out)
	}
	return dir, nil
})

// neighbourhood is a switch with a laptop on it, and whom the test adds.
type neighbourhood struct {
	t      *testing.T
	bridge *linktest.Namespace
	laptop *linktest.Namespace
	state  string // the laptop's state directory
	key    string // file with the laptop's login key
	ports  int

	sshdLog bytes.Buffer // whole once sshd has ended
}

func newNeighbourhood(t *testing.T) *neighbourhood {
	t.Helper()
	n := &neighbourhood{t: t, bridge: linktest.ForTest(t, "bridge"), state: t.TempDir()}
	n.check(errors.Join(n.bridge.Bridge("br0"), n.bridge.Sysctl("net/ipv6/conf/br0/disable_ipv6", "1")))
	n.laptop = n.add("laptop", "52:54:00:00:00:01")
	n.key = filepath.Join(n.state, "id_ed25519")
	n.keygen(n.key)
	return n
}

func (n *neighbourhood) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *neighbourhood) keygen(file string) {
	n.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file).CombinedOutput()
	if err != nil {
		n.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// add adds a machine with nothing on it but the kernel.
func (n *neighbourhood) add(name, mac string) *linktest.Namespace {
	n.t.Helper()
	m := linktest.ForTest(n.t, name)
	hw, err := net.ParseMAC(mac)
	n.check(err)
	n.ports++
	port := fmt.Sprintf("port%d", n.ports)
	n.check(linktest.Veth(n.bridge, port, m, "eth0"))
	n.check(m.SetMAC("eth0", hw))
	n.check(errors.Join(n.bridge.Attach("br0", port), m.SetUp("eth0")))
	_, err = m.LinkLocal(n.t.Context(), "eth0")
	n.check(err)
	return m
}

// sshd starts OpenSSH's server on a machine.
func (n *neighbourhood) sshd(m *linktest.Namespace) {
	n.t.Helper()
	// It drops privileges, for which a user namespace has no room.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		n.t.Skipf("OpenSSH's server wants to be root: %v", err)
	}
	hostKey := filepath.Join(n.t.TempDir(), "host_key")
	n.keygen(hostKey)
	path, err := gokrazy.LookTool("sshd", "openssh-server")
	n.check(err)
	cmd := exec.Command(path, "-D", "-e", "-f", "/dev/null", "-h", hostKey, "-o", "PidFile=none", "-o", "UsePAM=no")
	cmd.Stderr = &n.sshdLog
	n.check(m.Start(cmd))
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	n.check(m.WaitFor(n.t.Context(), "sshd", func() (bool, error) {
		sockets, err := os.ReadFile("/proc/thread-self/net/tcp6")
		return strings.Contains(string(sockets), ":0016 "), err
	}))
}

// rescued starts the instance whose host key is in a file, and waits for its
// label address to answer.
func (n *neighbourhood) rescued(m *linktest.Namespace, in instance.Instance) {
	n.t.Helper()
	bin, err := programs()
	n.check(err)
	dir := n.t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	n.check(err)
	n.t.Cleanup(func() { log.Close() })
	cmd := exec.Command(filepath.Join(bin, "rescued"), "-host_key", in.HostKeyFile(), "-authorized_keys", n.key+".pub",
		"-state_dir", dir, "-control", filepath.Join(dir, "control"))
	cmd.Stderr = log
	n.check(m.Start(cmd))
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	want := identity.AuthorizedKey(in.Key)
	err = n.laptop.WaitFor(n.t.Context(), "the banner of "+in.Name, func() (bool, error) {
		out, _ := n.laptop.Run(n.t.Context(), "ssh-keyscan", "-T", "1", "-t", "ed25519", in.Label().String()+"%eth0")
		return strings.Contains(string(out), want), nil
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		n.t.Fatalf("%v\n%s", err, text)
	}
}

// instance makes one, for a state directory.
func (n *neighbourhood) instance(state, name string) instance.Instance {
	n.t.Helper()
	in, err := instance.Store{Dir: filepath.Join(state, "rescue6")}.Create(name)
	n.check(err)
	return in
}

// rescue runs the command on the laptop.
func (n *neighbourhood) rescue(args ...string) (stdout, stderr string, status int) {
	n.t.Helper()
	c := rescueCommand(n.t, n.state, nil, args...)
	status = c.runOn(n.t, n.laptop)
	return c.stdout.String(), c.stderr.String(), status
}

// found runs find and returns the hosts by MAC.
func (n *neighbourhood) found(args ...string) map[string]scan.Record {
	n.t.Helper()
	out, said, status := n.rescue(append([]string{"find", "--json"}, args...)...)
	if status != exitOK || said != "" {
		n.t.Fatalf("rescue find: exit status %d\n%s%s", status, out, said)
	}
	hosts := make(map[string]scan.Record)
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		var h scan.Record
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			n.t.Fatalf("%v: %s", err, lines.Text())
		}
		if _, twice := hosts[h.MAC]; twice {
			n.t.Errorf("%s is there twice:\n%s", h.MAC, out)
		}
		hosts[h.MAC] = h
	}
	return hosts
}

const (
	atticMAC    = "b8:27:eb:00:00:01"
	strangerMAC = "b8:27:eb:00:00:02"
	shyMAC      = "b8:27:eb:00:00:03"
	printerMAC  = "52:54:00:00:00:07"
)

func TestFind(t *testing.T) {
	n := newNeighbourhood(t)
	attic, stranger := n.instance(n.state, "attic"), n.instance(t.TempDir(), "stranger")
	shy := n.instance(n.state, "shy")
	n.rescued(n.add("attic", atticMAC), attic)
	n.rescued(n.add("stranger", strangerMAC), stranger)
	n.add("printer", printerMAC)
	// It answers no echo to a group, but it is ours: its address is known.
	ignoring := n.add("shy", shyMAC)
	n.check(ignoring.Sysctl("net/ipv6/icmp/echo_ignore_multicast", "1"))
	n.rescued(ignoring, shy)

	t.Run("JSON", func(t *testing.T) {
		hosts := n.found("-i", "eth0")
		if len(hosts) != 5 {
			t.Errorf("%d hosts, want 5, this machine included: %v", len(hosts), hosts)
		}
		for mac, in := range map[string]instance.Instance{atticMAC: attic, shyMAC: shy} {
			h := hosts[mac]
			if h.SSH == nil || h.SSH.KnownAs != in.Name || h.SSH.Port != 22 || h.SSH.Fingerprint != identity.Fingerprint(in.Key) ||
				h.Rescue == nil || !h.Rescue.KeyKnown || h.Rescue.LabelAddress != in.Label().String() {
				t.Errorf("%s is not recognised: %+v", in.Name, h)
			}
			if a := h.Addresses; len(a) == 0 || netip.MustParseAddr(a[0].Address).Zone() != "eth0" {
				t.Errorf("%s has no address with a zone: %+v", in.Name, h)
			}
		}
		if h := hosts[strangerMAC]; h.SSH == nil || h.SSH.KnownAs != "" || h.Rescue != nil && h.Rescue.KeyKnown {
			t.Errorf("a stranger: %+v", h)
		}
		if h, ok := hosts[printerMAC]; !ok || h.SSH != nil || h.Rescue != nil || h.Self {
			t.Errorf("a host without SSH: %+v", h)
		}
		if h := hosts["52:54:00:00:00:01"]; !h.Self {
			t.Errorf("this machine: %+v", h)
		}
		// The foreign judge of the fingerprints.
		scanned, err := n.laptop.Run(t.Context(), "ssh-keyscan", "-t", "ed25519", hosts[strangerMAC].Addresses[0].Address)
		if err != nil || !strings.Contains(string(scanned), identity.AuthorizedKey(stranger.Key)) {
			t.Errorf("ssh-keyscan: %v\n%s", err, scanned)
		}
	})
	t.Run("table", func(t *testing.T) {
		out, said, status := n.rescue("find")
		if status != exitOK || said != "" {
			t.Fatalf("exit status %d\n%s%s", status, out, said)
		}
		lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
		if first := strings.Fields(lines[1]); first[0] != "attic" || !strings.Contains(lines[1], " yours ") {
			t.Errorf("the first row is not of an own instance:\n%s", out)
		}
		if lines[len(lines)-1] != "rescue ssh attic" {
			t.Errorf("the last line is not the command to copy:\n%s", out)
		}
		if n := strings.Count(out, "yours"); n != 2 {
			t.Errorf("%d hosts are \"yours\", want 2:\n%s", n, out)
		}
		if !strings.Contains(out, "(this machine)") {
			t.Errorf("this machine is not marked:\n%s", out)
		}
	})
}

// What scripts, administrators of DNS, and users of v6disc.sh ask for.
func TestFindOutputs(t *testing.T) {
	n := newNeighbourhood(t)
	const prefix = "2001:db8:1::"
	server := n.add("server", printerMAC)
	for m, addrs := range map[*linktest.Namespace][]string{n.laptop: {prefix + "1/64", "192.0.2.1/28"}, server: {prefix + "7/64", "192.0.2.7/28"}} {
		for _, a := range addrs {
			n.check(m.AddAddress("eth0", netip.MustParsePrefix(a)))
		}
	}
	n.sshd(server)
	const linkLocal = "fe80::5054:ff:fe00:7%eth0"
	for _, tt := range []struct {
		args string
		want []string // lines, or parts of them
		not  string
	}{
		{"-q", []string{linkLocal + "\n"}, "NAME"},
		{"-q -L", []string{linkLocal + "\n"}, prefix},
		{"--all-addresses", []string{"\n" + prefix + "/64\n  " + prefix + "7  " + printerMAC + "\n", "\nssh root@" + linkLocal + "\n"}, ""},
		{"-L --all-addresses", []string{linkLocal}, prefix},
		{"-D", []string{"192.0.2.7", prefix + "7"}, ""},
		{"--ipv4 --json", []string{`"ipv4":["192.0.2.7"]`, `"vendor":"QEMU virtual NIC"`, `"router":false`, `"scope":"global"`, `"first_seen":"`}, ""},
		{"--ports 22,80", []string{"open: 22 "}, ""},
		{"-N --json", []string{`"ports":[22]`}, ""},
		{"-p --json", []string{`"unicast"`}, ""},
		{"--dns home.arpa", []string{"host-525400000007.home.arpa. IN AAAA " + prefix + "7 ; QEMU virtual NIC\n"}, "fe80"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, said, status := n.rescue(append([]string{"find"}, strings.Fields(tt.args)...)...)
			if status != exitOK || said != "" {
				t.Fatalf("exit status %d\n%s%s", status, out, said)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("there is no %q in:\n%s", want, out)
				}
			}
			if tt.not != "" && strings.Contains(out, tt.not) {
				t.Errorf("there is %q in:\n%s", tt.not, out)
			}
		})
	}
}

// Who comes, changes and goes is told; what goes missing once has not gone.
func TestCompare(t *testing.T) {
	host := func(n byte, addrs ...string) scan.Host {
		h := scan.Host{Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, n}}
		for _, a := range addrs {
			h.Addresses = append(h.Addresses, scan.Address{Addr: netip.MustParseAddr(a)})
		}
		return h
	}
	a, b := host(1, "fe80::1%eth0"), host(2, "fe80::2%eth0")
	more := host(1, "fe80::1%eth0", "2001:db8::1")
	known := map[string]*watched{}
	for i, step := range []struct {
		hosts []scan.Host
		want  string
	}{
		{[]scan.Host{a, b}, "new 1, new 2"},
		{[]scan.Host{a, b}, ""},
		{[]scan.Host{more}, "changed 1"},
		{[]scan.Host{a}, ""},
		{[]scan.Host{a}, "gone 2"},
		{[]scan.Host{a, b}, "new 2"},
	} {
		var got []string
		for _, e := range compare(known, step.hosts) {
			got = append(got, fmt.Sprintf("%s %d", e.what, e.host.MAC[5]))
		}
		if s := strings.Join(got, ", "); s != step.want {
			t.Errorf("step %d: %q, want %q", i, s, step.want)
		}
	}
}

// A host whose software says what it likes is shown without control characters,
// and OpenSSH's sshd, which is nobody's instance, is a stranger.
func TestFindStrangers(t *testing.T) {
	n := newNeighbourhood(t)
	n.sshd(n.add("server", printerMAC))
	hostile := n.add("hostile", shyMAC)
	var l net.Listener
	n.check(hostile.Do(func() (err error) {
		l, err = net.Listen("tcp6", "[::]:22")
		return err
	}))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "\x1b[2J\x07noise\r\nSSH-2.0-\x1b]0;evil\x07\r\n")
			c.Close()
		}
	}()
	out, _, status := n.rescue("find")
	if status != exitOK || !strings.Contains(out, shyMAC) || regexp.MustCompile(`[\x00-\x09\x0b-\x1f]`).MatchString(out) {
		t.Errorf("exit status %d\n%q", status, out)
	}
	if !strings.Contains(out, "OpenSSH_") || strings.Contains(out, "yours") || strings.Contains(out, "self-consistent") {
		t.Errorf("sshd is no stranger:\n%s", out)
	}
}

func TestFindExits(t *testing.T) {
	noRaw := []string{"setpriv", "--bounding-set=-net_raw"}
	for _, tt := range []struct {
		name   string
		links  func(n *linktest.Namespace) error
		prefix []string
		args   []string
		status int
		says   string
	}{
		{"nobody", nil, nil, nil, exitNothing, ""},
		{"no such interface", nil, nil, []string{"-i", "eth9"}, exitUsage, `there is no interface "eth9": this machine has lo, `},
		{"wrong flag", nil, nil, []string{"--fast"}, exitUsage, "rescue find --help"},
		{"too short", nil, nil, []string{"--timeout", "0s"}, exitUsage, "above 0"},
		{"down", func(n *linktest.Namespace) error { return n.SetDown("eth0") }, nil, nil, exitNotPermitted, "eth0 is down (sudo ip link set eth0 up)"},
		{"no carrier", func(n *linktest.Namespace) error { return n.SetDown("eth1") }, nil, []string{"-i", "eth0"}, exitNotPermitted, "eth0 has no carrier"},
		{"no IPv6", func(n *linktest.Namespace) error { return n.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1") }, nil, []string{"-i", "eth0"},
			exitNotPermitted, "sudo sysctl -w net.ipv6.conf.eth0.disable_ipv6=0"},
		{"loopback", nil, nil, []string{"-i", "lo"}, exitNotPermitted, "lo is no Ethernet link"},
		{"not permitted", nil, noRaw, nil, exitNotPermitted, "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'"},
		{"permitted to all", func(n *linktest.Namespace) error { return n.Sysctl("net/ipv4/ping_group_range", "0 0") }, noRaw, nil, exitNothing, "rescue: hosts that ignore pings were not seen: sudo rescue find, or once: sudo setcap cap_net_raw+ep /"},
		{"a port that there is not", nil, nil, []string{"--ports", "22,70000"}, exitUsage, "--ports 70000: a port is a number from 1 to 65535"},
		{"no domain", nil, nil, []string{"--dns", "home arpa"}, exitUsage, "such as home.arpa"},
		{"two outputs", nil, nil, []string{"--json", "-q"}, exitUsage, "choose one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := linktest.ForTest(t, "laptop")
			// Nobody but this machine is on its link.
			err := errors.Join(linktest.Veth(n, "eth0", n, "eth1"), n.SetUp("eth0", "eth1"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.LinkLocal(t.Context(), "eth0"); err != nil {
				t.Fatal(err)
			}
			if tt.links != nil {
				if err := tt.links(n); err != nil {
					t.Fatal(err)
				}
			}
			cmd := rescueCommand(t, "", tt.prefix, append([]string{"find"}, tt.args...)...)
			status := cmd.runOn(t, n)
			if status != tt.status || !strings.Contains(cmd.stderr.String(), tt.says) || tt.says == "" && cmd.stderr.Len() > 0 ||
				strings.Count(cmd.stderr.String(), "\n") > 1 {
				t.Errorf("exit status %d\n%s%s", status, &cmd.stdout, &cmd.stderr)
			}
		})
	}
}
