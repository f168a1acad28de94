package status

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fine is an instance that nothing is wrong with.
func fine() Report {
	label := netip.MustParseAddr("fe80::1234")
	return Report{
		Hostname: "attic", HostKey: "SHA256:x", Label: label, Uptime: 90 * time.Second,
		Listener: Listener{Port: 22, Scope: "link"},
		Spare:    Spare{PID: 7, Ready: true, RSSKiB: 10240},
		Links: []Link{
			{Name: "eth0", MAC: "b8:27:eb:00:00:01", Served: true, Up: true, Carrier: true,
				LinkLocal: []Address{{Addr: label, Label: true, Usable: true, State: "preferred"}},
				IPv4:      []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24")},
				Gateway4:  []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
			{Name: "sit0", Why: "not an Ethernet link"},
		},
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Report)
		dead   bool
		want   string
	}{
		{"nothing", func(*Report) {}, false, ""},
		{"no cable", func(r *Report) { r.Links[0].Carrier = false }, true, "eth0 has no carrier"},
		{"down", func(r *Report) { r.Links[0].Up = false }, false, "eth0 is down"},
		{"no lease", func(r *Report) { r.Links[0].IPv4, r.Links[0].Gateway4 = nil, nil }, true, "eth0 has no IPv4 address"},
		{"self-assigned", func(r *Report) { r.Links[0].IPv4 = []netip.Prefix{netip.MustParsePrefix("169.254.3.4/16")} }, true, "self-assigned IPv4 address only (169.254.3.4)"},
		{"no gateway", func(r *Report) { r.Links[0].Gateway4 = nil }, true, "no IPv4 gateway"},
		{"duplicate", func(r *Report) { r.Links[0].LinkLocal[0].State = "dadfailed" }, false, "a neighbour claims fe80::1234"},
		{"nothing to serve", func(r *Report) { r.Links = r.Links[1:] }, true, "no network interface"},
		{"an incident goes on", func(r *Report) { r.Incidents = []Incident{{Fault: "link is down", Link: "eth1", Since: time.Minute}} }, false, "eth1: link is down, since 1m0s"},
		{"an incident is over", func(r *Report) { r.Incidents = []Incident{{Fault: "link is down", Recovered: true}} }, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := fine()
			tt.change(&r)
			problems := r.Problems()
			if tt.want == "" && len(problems) > 0 || tt.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], tt.want)) {
				t.Errorf("problems %q, want %q", problems, tt.want)
			}
			if r.IPv4Dead() != tt.dead {
				t.Errorf("IPv4 is dead: %t, want %t", r.IPv4Dead(), tt.dead)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			for _, where := range []string{r.Greeting(), text.String()} {
				if !strings.Contains(where, tt.want) || !strings.Contains(where, "attic") || !strings.Contains(where, "fe80::1234") {
					t.Errorf("%q is not in:\n%s", tt.want, where)
				}
			}
		})
	}
}

// What rescued tells arrives as it was, for root alone, and a client that does
// not read keeps nobody waiting for long.
func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "control")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, path, fine) }()
	var got Report
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got, err = Fetch(ctx, path); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	byAddr := []cmp.Option{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(fine(), got, byAddr...); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := Fetch(ctx, path); err != nil {
		t.Errorf("beside a silent client: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestFetchSays(t *testing.T) {
	dir := t.TempDir()
	if _, err := Fetch(t.Context(), filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "rescued is not running here") {
		t.Errorf("no socket: %v", err)
	}
	for name, answer := range map[string]string{"nothing": "", "garbage": "\x00\xff", "another": "[]"} {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write([]byte(answer))
				c.Close()
			}
		}()
		if _, err := Fetch(t.Context(), path); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
	// Somebody who listens and never answers.
	path := filepath.Join(dir, "hangs")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Fetch(ctx, path); err == nil {
		t.Error("an answer from somebody who gives none")
	}
}
