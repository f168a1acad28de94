package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"rescue6/rescue/link/linktest"
)

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func TestNeeds(t *testing.T) {
	const n = 2
	ours, drop, pass := rule{ours: true}, rule{blocks: true}, rule{}
	for _, tt := range []struct {
		name  string
		chain chain
		want  bool
	}{
		{"empty", chain{}, false},
		{"drops by policy", chain{drops: true}, true},
		{"drops by policy, ours are there", chain{drops: true, rules: []rule{ours, ours}}, false},
		{"one of ours is missing", chain{drops: true, rules: []rule{ours}}, true},
		{"one too many", chain{drops: true, rules: []rule{ours, ours, ours}}, true},
		{"a rule drops", chain{rules: []rule{pass, drop}}, true},
		{"a rule drops behind ours", chain{rules: []rule{ours, ours, drop}}, false},
		{"a rule drops before ours", chain{rules: []rule{drop, ours, ours}}, true},
		{"a rule drops between ours", chain{rules: []rule{ours, drop, ours}}, true},
		{"nothing drops", chain{rules: []rule{pass, pass}}, false},
	} {
		if got := needs(tt.chain, n); got != tt.want {
			t.Errorf("%s: needs = %t, want %t", tt.name, got, tt.want)
		}
	}
}

// world is this machine, with something that listens on port 22, and a neighbour
// that judges.
type world struct {
	t        *testing.T
	pi, peer *linktest.Namespace
	addr     netip.Addr
	listener net.Listener
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pi: linktest.ForTest(t, "pi"), peer: linktest.ForTest(t, "peer")}
	w.check(errors.Join(linktest.Veth(w.pi, "eth0", w.peer, "eth0"), w.pi.SetUp("eth0"), w.peer.SetUp("eth0")))
	var err error
	w.addr, err = w.pi.LinkLocal(t.Context(), "eth0")
	w.check(err)
	_, err = w.peer.LinkLocal(t.Context(), "eth0")
	w.check(err)
	w.check(w.pi.Do(func() error {
		w.listener, err = net.Listen("tcp6", "[::]:22")
		return err
	}))
	t.Cleanup(func() { w.listener.Close() })
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) nft(rules string) {
	w.t.Helper()
	out, err := w.pi.Run(w.t.Context(), "nft", rules)
	if err != nil {
		w.t.Fatalf("nft %s: %v\n%s", rules, err, out)
	}
}

func (w *world) ruleset() string {
	w.t.Helper()
	out, err := w.pi.Run(w.t.Context(), "nft", "list", "ruleset")
	w.check(err)
	return string(out)
}

// repair runs Repair on the Pi.
func (w *world) repair() (changed []string) {
	w.t.Helper()
	w.check(w.pi.Do(func() (err error) {
		changed, err = Repair(22)
		return err
	}))
	return changed
}

// reached says whether the peer, which has forgotten the Pi's MAC, can connect and
// gets an echo.
func (w *world) reached(limit time.Duration) error {
	_, _ = w.peer.Run(w.t.Context(), "ip", "neigh", "flush", "dev", "eth0")
	err := w.peer.Do(func() error {
		c, err := net.DialTimeout("tcp6", netip.AddrPortFrom(w.addr.WithZone("eth0"), 22).String(), limit)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	if out, err := w.peer.Run(w.t.Context(), "ping", "-c", "1", "-W", "2", w.addr.WithZone("eth0").String()); err != nil {
		return fmt.Errorf("ping: %w: %s", err, out)
	}
	return nil
}

const filter = "add table inet f; add chain inet f in { type filter hook input priority 0; %s }; "

func TestRepair(t *testing.T) {
	for _, tt := range []struct {
		name, rules string
		chains      int // that are changed
	}{
		{"input drops by policy", fmt.Sprintf(filter, "policy drop;"), 1},
		{"a rule drops SSH", fmt.Sprintf(filter, "") + "add rule inet f in tcp dport 22 drop", 1},
		{"a rule rejects SSH", fmt.Sprintf(filter, "") + "add rule inet f in tcp dport 22 reject", 1},
		{"a rule drops ICMPv6", "add table ip6 f; add chain ip6 f in { type filter hook input priority 0; }; add rule ip6 f in meta l4proto icmpv6 drop", 1},
		{"a map drops", fmt.Sprintf(filter, "") + "add rule inet f in tcp dport vmap { 22 : drop, 80 : accept }", 1},
		{"a chain beside it drops", fmt.Sprintf(filter, "") + "add chain inet f other; add rule inet f other tcp dport 22 drop; add rule inet f in jump other", 1},
		{"output drops by policy", "add table inet f; add chain inet f out { type filter hook output priority 0; policy drop; }", 1},
		{"prerouting drops", "add table ip6 f; add chain ip6 f pre { type filter hook prerouting priority -300; policy drop; }", 1},
		{"two chains drop", fmt.Sprintf(filter, "policy drop;") + "add chain inet f late { type filter hook input priority 100; policy drop; }", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.nft(tt.rules)
			before := w.ruleset()
			if err := w.reached(300 * time.Millisecond); err == nil {
				t.Fatal("the rules block nothing")
			}
			if changed := w.repair(); len(changed) != tt.chains {
				t.Errorf("changed %v, want %d chains\n%s", changed, tt.chains, w.ruleset())
			}
			if err := w.reached(5 * time.Second); err != nil {
				t.Errorf("%v\n%s", err, w.ruleset())
			}
			if changed := w.repair(); len(changed) != 0 {
				t.Errorf("changed %v again", changed)
			}
			// Theirs are as they were.
			var theirs []string
			for line := range strings.Lines(w.ruleset()) {
				if !strings.Contains(line, `comment "rescue6"`) {
					theirs = append(theirs, line)
				}
			}
			if got := strings.Join(theirs, ""); got != before {
				t.Errorf("the user's rules were\n%s\nand are\n%s", before, got)
			}
			// What is put before ours is put behind them again.
			w.nft("insert rule " + firstChain(t, w) + " meta l4proto { tcp, icmpv6 } drop")
			if changed := w.repair(); len(changed) != 1 {
				t.Errorf("after an insertion: changed %v", changed)
			}
			if err := w.reached(5 * time.Second); err != nil {
				t.Errorf("after an insertion: %v\n%s", err, w.ruleset())
			}
		})
	}
}

// firstChain returns "family table chain" of the first base chain.
func firstChain(t *testing.T, w *world) string {
	t.Helper()
	table, chain := "", ""
	for line := range strings.Lines(w.ruleset()) {
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "table":
			table = f[1] + " " + f[2]
		case len(f) > 1 && f[0] == "chain":
			chain = f[1]
		case len(f) > 0 && f[0] == "type":
			return table + " " + chain
		}
	}
	t.Fatal("there is no base chain")
	return ""
}

// What blocks nothing of ours is left alone.
func TestNothingToRepair(t *testing.T) {
	for name, rules := range map[string]string{
		"no rules":    "",
		"empty chain": fmt.Sprintf(filter, ""),
		"accepts":     fmt.Sprintf(filter, "") + "add rule inet f in tcp dport 80 counter accept",
		"IPv4":        "add table ip f; add chain ip f in { type filter hook input priority 0; policy drop; }",
		"forwarding":  "add table inet f; add chain inet f through { type filter hook forward priority 0; policy drop; }",
		"NAT":         "add table ip6 n; add chain ip6 n pre { type nat hook prerouting priority -100; }; add rule ip6 n pre tcp dport 8080 redirect to :80",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if rules != "" {
				w.nft(rules)
			}
			before := w.ruleset()
			if changed := w.repair(); len(changed) > 0 || w.ruleset() != before {
				t.Errorf("changed %v\n%s", changed, w.ruleset())
			}
		})
	}
}
