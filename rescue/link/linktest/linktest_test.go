package linktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

// roleEnv makes this binary something other than a test.
const roleEnv = "LINKTEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	switch role {
	case "entered":
		n, err := New("inner")
		if err == nil {
			err = Veth(n, "a", n, "b")
		}
		fmt.Println("entered", os.Getuid(), err)
	case "maker":
		if err := maker(); err != nil {
			fmt.Println(err)
		}
	default:
		os.Exit(m.Run())
	}
}

// maker makes a namespace linked to the one it runs in, and waits to be killed.
func maker() error {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	inner, err := New("inner")
	if err != nil {
		return err
	}
	if err := inner.Start(exec.Command("sleep", "3600")); err != nil {
		return err
	}
	if err := Veth(inner, "in0", &Namespace{name: "outer", ns: f}, "out0"); err != nil {
		return err
	}
	<-inner.ended
	return nil
}

// leaks checks, after all else, that no goroutine is left.
func leaks(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

// Two namespaces on one cable see each other, and the host sees neither.
func TestVeth(t *testing.T) {
	leaks(t)
	a, b := ForTest(t, "a"), ForTest(t, "b")
	if err := Veth(a, "eth0", b, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Namespace{a, b} {
		if got := names(t, n); got != "lo eth0" {
			t.Errorf("links in %s: %q, want %q", n.Name(), got, "lo eth0")
		}
		if err := n.SetUp("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	addr, err := b.LinkLocal(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took > 900*time.Millisecond {
		t.Errorf("DAD took %s, want about 0.1 s", took)
	}
	if _, err := a.LinkLocal(t.Context(), "eth0"); err != nil { // to ping from
		t.Fatal(err)
	}
	ping(t, a, addr.WithZone("eth0").String())
}

func TestBridge(t *testing.T) {
	leaks(t)
	sw, a, b := ForTest(t, "switch"), ForTest(t, "a"), ForTest(t, "b")
	if err := sw.Bridge("br0"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Namespace{a, b} {
		port := "port-" + n.Name()
		err := errors.Join(Veth(n, "eth0", sw, port), sw.Attach("br0", port), n.SetUp("eth0"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.AddAddress("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := b.AddAddress("eth0", netip.MustParsePrefix("192.0.2.2/24")); err != nil {
		t.Fatal(err)
	}
	ping(t, a, "192.0.2.2")
	addr, err := a.LinkLocal(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.LinkLocal(t.Context(), "eth0"); err != nil { // to ping from
		t.Fatal(err)
	}
	ping(t, b, addr.WithZone("eth0").String())
}

func TestChangeLink(t *testing.T) {
	leaks(t)
	n := ForTest(t, "n")
	mac := net.HardwareAddr{2, 0, 0, 1, 2, 3}
	err := errors.Join(
		Veth(n, "a", n, "b"),
		n.SetMAC("a", mac),
		n.Sysctl("net/ipv6/conf/b/disable_ipv6", "1"),
		n.SetUp("a", "b"),
	)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := n.LinkLocal(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddr("fe80::ff:fe01:203"); addr.WithZone("") != want {
		t.Errorf("link-local address of a is %s, want %s", addr, want)
	}
	if err := n.SetDown("b"); err != nil {
		t.Fatal(err)
	}
	if out := run(t, n, "ip", "-6", "addr", "show", "dev", "a"); !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("a still has a carrier after b went down:\n%s", out)
	}
	if err := n.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, n); got != "lo" {
		t.Errorf("links after deleting one end: %q, want lo", got)
	}
	if err := n.SetUp("gone"); err == nil || !strings.Contains(err.Error(), "raising gone in n") {
		t.Errorf("SetUp of a missing link: %v", err)
	}
}

// Do brings the thread back, also when it is nested and when f fails.
func TestDoRestores(t *testing.T) {
	leaks(t)
	a, b := ForTest(t, "a"), ForTest(t, "b")
	inode := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	outside := inode()
	boom := errors.New("boom")
	err := a.Do(func() error {
		inA := inode()
		if inA == outside {
			t.Error("Do did not enter the namespace")
		}
		if err := b.Do(func() error { return boom }); err != boom {
			t.Errorf("nested Do = %v, want %v", err, boom)
		}
		if got := inode(); got != inA {
			t.Errorf("after a nested Do in %s, want %s", got, inA)
		}
		return boom
	})
	if err != boom {
		t.Errorf("Do = %v, want %v", err, boom)
	}
	if got := inode(); got != outside {
		t.Errorf("after Do in %s, want %s", got, outside)
	}
}

func TestRunReportsStandardError(t *testing.T) {
	leaks(t)
	n := ForTest(t, "n")
	_, err := n.Run(t.Context(), "ip", "link", "show", "dev", "gone")
	if err == nil || !strings.Contains(err.Error(), `"gone" does not exist`) {
		t.Errorf("Run = %v, want the message of ip", err)
	}
	if _, err := n.Run(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("Run of no program = %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Run(t.Context(), "true"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run after Close = %v, want %v", err, os.ErrClosed)
	}
}

// A daemon that has left its parent does not survive Close either.
func TestCloseEndsProcesses(t *testing.T) {
	leaks(t)
	n := ForTest(t, "n")
	run(t, n, "sh", "-c", "setsid sleep 3600 </dev/null >/dev/null 2>&1 &")
	fi, err := n.ns.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if got := processesIn(fi); len(got) != 1 {
		t.Fatalf("%d processes are inside, want the daemon", len(got))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if got := processesIn(fi); len(got) != 0 {
		t.Errorf("processes %v survived", got)
	}
}

// Killing the process that made a namespace removes it, with the processes that
// it started there. The judge is the other end of a veth pair, which goes too.
func TestKilledProcessLeavesNothing(t *testing.T) {
	leaks(t)
	outer := ForTest(t, "outer")
	var out bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=maker")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := outer.Start(cmd); err != nil {
		t.Fatal(err)
	}
	there := func() (bool, error) {
		_, err := netlink.LinkByName("out0")
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return false, nil
		}
		return err == nil, err
	}
	err := outer.WaitFor(t.Context(), "the link of the other process", there)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	err = outer.WaitFor(t.Context(), "the link to go", func() (bool, error) {
		ok, err := there()
		return !ok, err
	})
	if err != nil {
		t.Error(err)
	}
}

// Somebody who is not root gets namespaces too, or is told what to do.
func TestEnterUnprivileged(t *testing.T) {
	if os.Getenv(enteredEnv) != "" {
		return // this process is the proof
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3") // the directory may be closed to others
	cmd.Env = append(os.Environ(), roleEnv+"=entered")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && string(out) == "entered 0 <nil>\n":
	case err != nil && strings.HasPrefix(string(out), ErrNotPermitted.Error()):
		t.Logf("this machine allows no user namespaces: %s", out)
	default:
		t.Errorf("Enter as nobody: %v: %s", err, out)
	}
}

func TestWaitForGivesUp(t *testing.T) {
	n := ForTest(t, "n")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := n.WaitFor(ctx, "Godot", func() (bool, error) { return false, nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Godot") {
		t.Errorf("WaitFor = %v", err)
	}
}

func run(t *testing.T, n *Namespace, args ...string) string {
	t.Helper()
	out, err := n.Run(t.Context(), args[0], args[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func ping(t *testing.T, n *Namespace, addr string) {
	t.Helper()
	run(t, n, "ping", "-c1", "-W5", addr)
}

// names lists the links of a namespace as iproute2 sees them.
func names(t *testing.T, n *Namespace) string {
	t.Helper()
	var links []struct{ Ifname string }
	if err := json.Unmarshal([]byte(run(t, n, "ip", "-j", "link")), &links); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range links {
		all = append(all, l.Ifname)
	}
	return strings.Join(all, " ")
}
