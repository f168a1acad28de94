package announce

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rescue6/rescue/link"
	"rescue6/rescue/link/linktest"
)

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	goleak.VerifyTestMain(m)
}

// A bench is an instance and a laptop on one cable, both with an eth0 that is up
// and has a link-local address.
type bench struct {
	pi, laptop *linktest.Namespace
	addr       netip.Addr // of the instance
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{pi: linktest.ForTest(t, "pi"), laptop: linktest.ForTest(t, "laptop")}
	b.plug(t)
	return b
}

// plug makes the cable.
func (b *bench) plug(t *testing.T) {
	t.Helper()
	if err := linktest.Veth(b.pi, "eth0", b.laptop, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*linktest.Namespace{b.pi, b.laptop} {
		if err := n.SetUp("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []*linktest.Namespace{b.laptop, b.pi} {
		addr, err := n.LinkLocal(t.Context(), "eth0")
		if err != nil {
			t.Fatal(err)
		}
		b.addr = addr.WithZone("")
	}
}

// eth0 returns the instance's link as the kernel sees it now.
func (b *bench) eth0(t *testing.T) link.Link {
	t.Helper()
	var found link.Link
	err := b.pi.Do(func() error {
		links, err := link.List()
		for _, l := range links {
			if l.Name == "eth0" {
				found = l
			}
		}
		return err
	})
	if err != nil || found.Index == 0 {
		t.Fatalf("eth0: %+v, %v", found, err)
	}
	return found
}

// announcer runs an announcer on the instance until the test ends.
func (b *bench) announcer(t *testing.T) *Announcer {
	t.Helper()
	a := New(Config{Hostname: "attic", Port: 22, Key: testKey(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	background(t, func(ctx context.Context) error {
		return b.pi.Do(func() error { return a.Run(ctx) })
	})
	return a
}

// background runs f until the test ends, or calls the returned function, which
// returns what f did.
func background(t *testing.T, f func(context.Context) error) (wait func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var ended bool
	t.Cleanup(func() {
		cancel()
		if !ended {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return func() error {
		ended = true
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			cancel()
			<-done
			return fmt.Errorf("still running after 10 s")
		}
	}
}

// A report is one call of the function that Listen gets.
type report struct {
	Announcement
	from netip.Addr
	mac  net.HardwareAddr
}

// listen listens on eth0 of a namespace.
func listen(t *testing.T, n *linktest.Namespace) (heard <-chan report, wait func() error) {
	t.Helper()
	ch := make(chan report, 100)
	wait = background(t, func(ctx context.Context) error {
		return n.Do(func() error {
			return Listen(ctx, "eth0", func(a Announcement, from netip.Addr, mac net.HardwareAddr) {
				ch <- report{a, from, mac}
			})
		})
	})
	// It listens when the kernel has its socket: only then may anybody speak.
	waitFor(t, n, "a packet socket", func() (bool, error) {
		sockets, err := os.ReadFile("/proc/thread-self/net/packet")
		return strings.Contains(string(sockets), " 86dd "), err
	})
	return ch, wait
}

func waitFor(t *testing.T, n *linktest.Namespace, what string, f func() (bool, error)) {
	t.Helper()
	if err := n.WaitFor(t.Context(), what, f); err != nil {
		t.Fatal(err)
	}
}

// next returns the next announcement that is heard.
func next(t *testing.T, heard <-chan report) report {
	t.Helper()
	select {
	case r := <-heard:
		if err := r.Verify(); err != nil {
			t.Error(err)
		}
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was heard within 10 s")
		return report{}
	}
}

func TestHeardOnALink(t *testing.T) {
	b := newBench(t)
	heard, _ := listen(t, b.laptop)
	own, _ := listen(t, b.pi)
	eth0 := b.eth0(t)
	a := b.announcer(t)
	a.Update([]link.Link{eth0}, true)

	for i := range 3 {
		r := next(t, heard)
		if r.Hostname != "attic" || r.Target != b.addr || r.from != b.addr.WithZone("eth0") || !r.IPv4Dead || r.Router ||
			r.mac.String() != eth0.MAC.String() || r.MAC.String() != eth0.MAC.String() || r.Sequence != uint64(i+1) {
			t.Errorf("heard %+v", r)
		}
	}
	if sent, failed, last := a.Stats(); sent != 3 || failed != 0 || time.Since(last) > time.Minute {
		t.Errorf("Stats: %d, %d, %v", sent, failed, last)
	}
	if len(own) > 0 {
		t.Errorf("the instance heard itself: %+v", <-own)
	}
}

// neighbour returns what the laptop's kernel thinks the MAC address behind the
// instance's address is, as ip shows it.
func (b *bench) neighbour(t *testing.T) string {
	t.Helper()
	out, err := b.laptop.Run(t.Context(), "ip", "-j", "-6", "neigh", "show", "dev", "eth0")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Dst    netip.Addr `json:"dst"`
		LLAddr string     `json:"lladdr"`
	}
	if err := json.Unmarshal(out, &entries); err != nil {
		t.Fatalf("ip -j neigh: %v: %s", err, out)
	}
	for _, e := range entries {
		if e.Dst == b.addr {
			return e.LLAddr
		}
	}
	return ""
}

func TestNeighbourLearnsNewMAC(t *testing.T) {
	b := newBench(t)
	before := b.eth0(t)
	if _, err := b.laptop.Run(t.Context(), "ping", "-c", "1", "-W", "5", b.addr.String()+"%eth0"); err != nil {
		t.Fatal(err)
	}
	if got := b.neighbour(t); got != before.MAC.String() {
		t.Fatalf("the laptop has %q for %v", got, b.addr)
	}

	board2 := net.HardwareAddr{0x02, 0x00, 0x5e, 0x10, 0x00, 0x02}
	if err := b.pi.SetMAC("eth0", board2); err != nil {
		t.Fatal(err)
	}
	if got := b.neighbour(t); got != before.MAC.String() {
		t.Fatalf("the laptop has %q before it was told", got)
	}
	a := b.announcer(t)
	a.Update([]link.Link{b.eth0(t)}, false)
	waitFor(t, b.laptop, "the neighbour's new MAC address", func() (bool, error) {
		return b.neighbour(t) == board2.String(), nil
	})
}

// TestLinkReCreated deletes the link under the announcer and makes it again, as
// pulling and plugging a USB adapter does.
func TestLinkReCreated(t *testing.T) {
	b := newBench(t)
	heard, wait := listen(t, b.laptop)
	a := b.announcer(t)
	a.Update([]link.Link{b.eth0(t)}, false)
	first := next(t, heard)

	if err := b.pi.Delete("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("Listen on a link that was deleted: %v", err)
	}
	// Nobody has told the announcer yet: it fails, and goes on.
	waitFor(t, b.pi, "a failed announcement", func() (bool, error) {
		_, failed, _ := a.Stats()
		return failed > 0, nil
	})

	b.plug(t)
	heard, _ = listen(t, b.laptop)
	a.Update([]link.Link{b.eth0(t)}, false)
	second := next(t, heard)
	if second.Target != b.addr || second.BootID != first.BootID || second.Sequence <= first.Sequence {
		t.Errorf("heard %+v after %+v", second, first)
	}
}

func TestListenSurvivesDown(t *testing.T) {
	b := newBench(t)
	heard, _ := listen(t, b.laptop)
	a := b.announcer(t)
	a.Update([]link.Link{b.eth0(t)}, false)
	next(t, heard)

	if err := b.laptop.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	a.Update(nil, false)
	if err := b.laptop.SetUp("eth0"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, b.pi, "the carrier", func() (bool, error) { return b.eth0(t).Carrier, nil })
	// The kernel may have begun duplicate address detection anew.
	if _, err := b.pi.LinkLocal(t.Context(), "eth0"); err != nil {
		t.Fatal(err)
	}
	sent, _, _ := a.Stats()
	a.Update([]link.Link{b.eth0(t)}, false)
	for next(t, heard).Sequence <= sent {
		// sent before the link went down
	}
}

func TestListenRefuses(t *testing.T) {
	err := Listen(t.Context(), "none0", nil)
	if err == nil || !strings.Contains(err.Error(), "none0") {
		t.Errorf("Listen on an interface that does not exist: %v", err)
	}
}

func TestListenRate(t *testing.T) {
	now := time.Unix(0, 0)
	b := bucket{tokens: listenBurst, at: now}
	// A flood of a million per second, for ten seconds.
	n := 0
	for range 10_000_000 {
		now = now.Add(time.Microsecond)
		if b.take(now) {
			n++
		}
	}
	if want := listenBurst + 10*listenRate; n < want-1 || n > want+1 {
		t.Errorf("%d were handed on, want %d", n, want)
	}
	// After a quiet day there is one burst, not a day's worth.
	now = now.Add(24 * time.Hour)
	for n = 0; b.take(now); n++ {
	}
	if n != listenBurst {
		t.Errorf("%d were handed on at once, want %d", n, listenBurst)
	}
}
