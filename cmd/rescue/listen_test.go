package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"rescue6/rescue/announce"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
	"rescue6/rescue/link"
	"rescue6/rescue/link/linktest"
)

// newInstance makes an instance in a state directory and returns its host key.
func newInstance(t *testing.T, state, name string) ed25519.PrivateKey {
	t.Helper()
	in, err := instance.Store{Dir: filepath.Join(state, "rescue6")}.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(in.HostKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return *key.(*ed25519.PrivateKey)
}

func TestListenHears(t *testing.T) {
	pi, laptop := linktest.ForTest(t, "pi"), linktest.ForTest(t, "laptop")
	if err := errors.Join(linktest.Veth(pi, "eth0", laptop, "eth0"), pi.SetUp("eth0"), laptop.SetUp("eth0")); err != nil {
		t.Fatal(err)
	}
	addr, err := pi.LinkLocal(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}

	state := t.TempDir()
	key := newInstance(t, state, "loft")
	cmd := rescueCommand(t, state, nil, "listen", "--json", "--count", "2", "--timeout", "20s")
	cmd.startOn(t, laptop)
	err = laptop.WaitFor(t.Context(), "a packet socket", func() (bool, error) {
		sockets, err := os.ReadFile("/proc/thread-self/net/packet")
		return strings.Contains(string(sockets), " 86dd "), err
	})
	if err != nil {
		t.Fatal(err)
	}

	a := announce.New(announce.Config{Hostname: "attic", Port: 22, Key: key, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	err = pi.Do(func() error {
		links, err := link.List()
		a.Update(links, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- pi.Do(func() error { return a.Run(ctx) }) }()
	status := cmd.status(t)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	lines := strings.Split(strings.TrimSpace(cmd.stdout.String()), "\n")
	if status != exitOK || len(lines) != 2 {
		t.Fatalf("exit status %d\n%s%s", status, &cmd.stdout, &cmd.stderr)
	}
	var got heardJSON
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatalf("%v: %s", err, lines[0])
	}
	if got.Hostname != "attic" || got.Address != addr.WithZone("eth0") || !got.SignatureValid || !got.IPv4Dead || got.Instance != "loft" ||
		got.Fingerprint != identity.Fingerprint(key.Public().(ed25519.PublicKey)) {
		t.Errorf("heard %s", lines[0])
	}
}

func TestListenExits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix []string
		args   []string
		status int
		says   string
	}{
		{"nothing to hear", nil, []string{"--timeout", "100ms"}, exitNothing, "no announcement within 100ms"},
		{"no such interface", nil, []string{"-i", "eth9"}, exitUsage, `there is no interface "eth9": choose from lo, `},
		{"negative count", nil, []string{"--count", "-1"}, exitUsage, "must not be negative"},
		{"not permitted", []string{"setpriv", "--bounding-set=-net_raw"}, nil, exitNotPermitted, "sudo setcap cap_net_raw+ep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := linktest.ForTest(t, "laptop")
			if err := errors.Join(linktest.Veth(n, "eth0", n, "eth1"), n.SetUp("eth0", "eth1")); err != nil {
				t.Fatal(err)
			}
			cmd := rescueCommand(t, "", tt.prefix, append([]string{"listen"}, tt.args...)...)
			if status := cmd.runOn(t, n); status != tt.status || !strings.Contains(cmd.stderr.String(), tt.says) || cmd.stdout.Len() > 0 {
				t.Errorf("exit status %d\n%s%s", status, &cmd.stdout, &cmd.stderr)
			}
		})
	}
}

func TestListenText(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, ed25519.SeedSize))
	mac := net.HardwareAddr{0xb8, 0x27, 0xeb, 0, 0, 1}
	h := hearing{
		Announcement: announce.Announcement{Hostname: "attic", Port: 22, MAC: mac, Target: netip.MustParseAddr("fe80::ba27:ebff:fe00:1")},
		from:         netip.MustParseAddr("fe80::ba27:ebff:fe00:1%eth0"),
		mac:          mac,
	}
	if err := h.Sign(key); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*hearing)
		want   string // words, in order
	}{
		{"a stranger", func(h *hearing) { h.valid = true },
			`"attic" fe80::ba27:ebff:fe00:1%eth0 b8:27:eb:00:00:01 valid 22 ` + identity.Fingerprint(h.Key)},
		{"an own one", func(h *hearing) { h.valid, h.mine, h.IPv4Dead = true, "loft", true },
			`loft fe80::ba27:ebff:fe00:1%eth0 b8:27:eb:00:00:01 yours 22 ` + identity.Fingerprint(h.Key) + ` IPv4 is dead`},
		{"forged, from elsewhere", func(h *hearing) { h.mac = net.HardwareAddr{2, 0, 0, 0, 0, 9} },
			`"attic" fe80::ba27:ebff:fe00:1%eth0 b8:27:eb:00:00:01 INVALID 22 ` + identity.Fingerprint(h.Key) + ` sent by 02:00:00:00:00:09`},
		{"the label address", func(h *hearing) { h.valid, h.Target = true, identity.LabelAddress(h.Key) },
			`"attic" ` + identity.LabelAddress(h.Key).String() + `%eth0 b8:27:eb:00:00:01 valid 22 ` + identity.Fingerprint(h.Key) + ` label address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h
			tt.change(&h)
			var out strings.Builder
			if err := printText(&out, h, false); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(out.String()), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
