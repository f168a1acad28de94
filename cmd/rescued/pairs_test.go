package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"rescue6/rescue/status"
)

// pairs is how many pairs of faults TestPairs injects.
const pairs = 10

// repeatable are the faults that can come again and again in one lab.
func repeatable() []fault {
	var all []fault
	for _, f := range faults {
		if f.row != 9 { // the lab is another afterwards
			all = append(all, f)
		}
	}
	return all
}

// seed returns that of SEED, or a new one, and tells it.
func seed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v := os.Getenv("SEED"); v != "" {
		if _, err := fmt.Sscan(v, &s); err != nil {
			t.Fatalf("SEED=%s: %v", v, err)
		}
	}
	t.Logf("SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// Row 30: two faults at once.
func TestPairs(t *testing.T) {
	r := seed(t)
	l := newLab(t)
	l.start()
	l.mustLogin(l.label(), "true")
	all := repeatable()
	for range pairs {
		a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
		l.report("a settled link", settled)
		label := l.label()
		began := time.Now()
		a.inject(l)
		b.inject(l)
		l.mustLogin(label, "true")
		took := time.Since(began)
		t.Logf("%s + %s: logged in after %v", a.name, b.name, took.Round(time.Millisecond))
		if took > max(a.bound(), b.bound()) {
			t.Errorf("%s + %s: logged in after %v", a.name, b.name, took)
		}
	}
}

// Row 6: a neighbour claims every address that is asked for in DAD.
func TestNeighbourClaimsEverything(t *testing.T) {
	l := newLab(t)
	l.run(l.laptop, "ip", "link", "set", "eth0", "up")
	stop := claimAll(l)
	defer stop()
	l.start()
	label := l.label()
	_, took := l.mustLogin(label, "true")
	t.Logf("logged in after %v", took.Round(time.Millisecond))
	l.report("an incident", func(r status.Report) bool {
		return slices.ContainsFunc(r.Incidents, func(i status.Incident) bool {
			return i.Fault == "every link-local address is claimed by a neighbour"
		})
	})
}

// claimAll answers each duplicate address detection (RFC 4862 §5.4.3) that the
// laptop hears.
func claimAll(l *lab) (stop func()) {
	l.t.Helper()
	var c *packet.Conn
	l.check(l.laptop.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// Solicited-node groups are many: all of them.
		c, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
		if err == nil {
			err = c.SetPromiscuous(true)
		}
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := claim(buf[:n]); answer != nil {
				_, _ = c.WriteTo(answer, &packet.Addr{HardwareAddr: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}})
			}
		}
	}()
	return func() { c.Close(); <-done }
}

// claim returns the advertisement that answers a solicitation from the unspecified
// address, nil for any other frame.
func claim(frame []byte) []byte {
	const ethernet, header = 14, 40
	if len(frame) < ethernet+header+24 || frame[ethernet+6] != 58 || frame[ethernet+header] != 135 {
		return nil
	}
	for _, b := range frame[ethernet+8 : ethernet+24] {
		if b != 0 {
			return nil
		}
	}
	m, err := ndp.ParseMessage(frame[ethernet+header:])
	ns, ok := m.(*ndp.NeighborSolicitation)
	if err != nil || !ok {
		return nil
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 66}
	na := &ndp.NeighborAdvertisement{Override: true, TargetAddress: ns.TargetAddress,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}}}
	allNodes := netip.MustParseAddr("ff02::1")
	body, err := ndp.MarshalMessageChecksum(na, ns.TargetAddress, allNodes)
	if err != nil {
		return nil
	}
	out := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	out = append(out, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(body)), 58, 255)
	out = append(out, ns.TargetAddress.AsSlice()...)
	out = append(out, allNodes.AsSlice()...)
	return append(out, body...)
}

// soakFor is how long TestSoak goes on.
func soakFor(t *testing.T) time.Duration {
	v := os.Getenv("DURATION")
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		t.Fatalf("DURATION=%s: give a time such as 1h", v)
	}
	return d
}

// TestSoak injects random faults under load until DURATION is over, and looks for
// leaks. 'make soak' calls it.
func TestSoak(t *testing.T) {
	duration := soakFor(t)
	if duration == 0 {
		return // only on request
	}
	r := seed(t)
	l := newLab(t)
	l.start()
	l.mustLogin(l.label(), "true")
	all := repeatable()
	before := usage(l)
	t.Logf("at the start: %v", before)
	injected, logins, slowest := 0, 0, time.Duration(0)
	for end := time.Now().Add(duration); time.Now().Before(end); {
		f := all[r.IntN(len(all))]
		l.report("a settled link", settled)
		took := l.recover(f)
		injected++
		slowest = max(slowest, took)
		if took > f.bound() {
			t.Errorf("%s: logged in after %v", f.name, took)
		}
		// Between faults every login works.
		l.report("a settled link", settled)
		for range 5 {
			if _, err := l.login(l.label(), "true"); err != nil {
				t.Errorf("after %s: %v", f.name, err)
			}
			logins++
		}
	}
	l.report("a settled link", settled)
	after := usage(l)
	t.Logf("at the end:   %v", after)
	t.Logf("%d faults, slowest login %v; %d logins between them", injected, slowest.Round(time.Millisecond), logins)
	if after.files > before.files+5 || after.threads > before.threads+10 || after.rss > 2*before.rss || after.zombies > 0 {
		t.Error("something leaks")
	}
}

// used is what holder and worker use.
type used struct {
	files, threads, zombies int
	rss                     float64 // MB
}

func (u used) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %.1f MB, %d zombies", u.files, u.threads, u.rss, u.zombies)
}

func usage(l *lab) (u used) {
	l.t.Helper()
	for _, role := range []string{"holder", "worker"} {
		pid := l.one("rescued", role)
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		u.files += len(files)
		u.threads += len(threads)
		u.rss += resident(l.t, pid)
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for c := range strings.FieldsSeq(string(children)) {
			stat, _ := os.ReadFile("/proc/" + c + "/stat")
			if _, rest, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(rest, "Z") {
				u.zombies++
			}
		}
	}
	return u
}
