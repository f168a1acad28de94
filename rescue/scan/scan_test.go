package scan

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
	"rescue6/rescue/link"
	"rescue6/rescue/link/linktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(scanEnv) != "" {
		os.Exit(scanHere())
	}
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// serverKey makes the host key of an instance.
func serverKey(t *testing.T) (ed25519.PublicKey, ssh.PublicKey) {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

func TestMerge(t *testing.T) {
	keyA, sshA := serverKey(t)
	_, sshB := serverKey(t)
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	links := map[int]string{2: "eth0", 3: "wlan0"}
	mine := []Instance{{"attic", keyA}}
	eui1, eui2 := identity.EUI64(mac(1)).String(), identity.EUI64(mac(2)).String()
	label := identity.LabelAddress(keyA).String()

	type seen struct {
		index int
		addr  string
		mac   net.HardwareAddr
		key   ssh.PublicKey
		self  bool
	}
	for _, tt := range []struct {
		name string
		seen []seen
		want []string // each: name interface addresses
	}{
		{"nobody", nil, nil},
		{"two addresses of one MAC", []seen{{2, eui1, mac(1), sshA, false}, {2, label, mac(1), sshA, false}},
			[]string{"attic eth0 " + eui1 + " " + label}},
		{"one is asked in vain", []seen{{2, eui1, mac(1), nil, false}, {2, label, mac(1), sshA, false}},
			[]string{"attic eth0 " + label + " " + eui1}},
		{"addresses of several scopes", []seen{{2, "2001:db8::1", mac(1), nil, false}, {2, "fd00::1", mac(1), nil, false}, {2, eui1, mac(1), sshA, false}},
			[]string{"attic eth0 " + eui1 + " 2001:db8::1 fd00::1"}},
		{"one key, no MAC", []seen{{2, eui1, nil, sshA, false}, {2, label, nil, sshA, false}},
			[]string{"attic eth0 " + eui1 + " " + label}},
		{"neither key nor MAC", []seen{{2, "fe80::1", nil, nil, false}, {2, "fe80::2", nil, nil, false}},
			[]string{" eth0 fe80::1", " eth0 fe80::2"}},
		{"the same address on two links", []seen{{2, eui1, mac(1), nil, false}, {3, eui1, mac(1), nil, false}},
			[]string{" eth0 " + eui1, " wlan0 " + eui1}},
		{"a proxy answers for another MAC", []seen{{2, eui1, mac(1), nil, false}, {2, eui2, mac(1), nil, false}},
			[]string{" eth0 " + eui1, " eth0 " + eui2}},
		{"two keys behind one MAC", []seen{{2, eui1, mac(1), sshB, false}, {2, label, mac(1), sshA, false}},
			[]string{"attic eth0 " + label, " eth0 " + eui1}},
		{"own instances first, this machine last",
			[]seen{{2, "fe80::1", mac(9), nil, true}, {2, "fe80::2", mac(2), nil, false}, {2, "fe80::3", mac(3), sshB, false}, {3, label, mac(4), sshA, false}},
			[]string{"attic wlan0 " + label, " eth0 fe80::3", " eth0 fe80::2", " eth0 fe80::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable()
			table.names = links
			for _, s := range tt.seen {
				p := place{s.index, netip.MustParseAddr(s.addr)}
				one := &sighting{place: p, mac: s.mac, via: []Via{ViaEcho}, self: s.self}
				if s.key != nil {
					one.ssh = &SSH{Addr: netip.AddrPortFrom(p.addr.WithZone(links[s.index]), sshPort), Key: s.key}
				}
				table.seen[p] = one
			}
			var got []string
			for _, h := range table.hosts(mine) {
				line := h.Name + " " + h.Interface
				for _, a := range h.Addresses {
					if a.Addr.IsLinkLocalUnicast() && a.Addr.Zone() != h.Interface {
						t.Errorf("%v is not of %s", a.Addr, h.Interface)
					}
					line += " " + a.Addr.WithZone("").String()
				}
				got = append(got, line)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPace(t *testing.T) {
	start := time.Now()
	for _, tt := range []struct {
		name string
		pace pace
		at   time.Duration
		end  bool
	}{
		{"at first", pace{timeout: time.Second}, 0, false},
		{"second round", pace{timeout: time.Second, sent: 1}, 250 * time.Millisecond, false},
		{"no news", pace{timeout: time.Second, sent: 2}, 550 * time.Millisecond, true},
		{"late news", pace{timeout: time.Second, sent: 2, news: start.Add(400 * time.Millisecond)}, 700 * time.Millisecond, true},
		{"news for ever", pace{timeout: time.Second, sent: 2, news: start.Add(900 * time.Millisecond)}, time.Second, true},
		{"no time for a second round", pace{timeout: 100 * time.Millisecond, sent: 1}, 100 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.pace.start = start
			at, end := tt.pace.next()
			if got := at.Sub(start); got != tt.at || end != tt.end {
				t.Errorf("next = %v, %t, want %v, %t", got, end, tt.at, tt.end)
			}
		})
	}
}

func TestSoftware(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "OpenSSH_9.2p1 Debian-2"},
		{"hello\r\nSSH-2.0-dropbear\r\n", "dropbear"},
		{"SSH-1.99-Cisco-1.25\n", "Cisco-1.25"},
		{"SSH-2.0-\x1b[31mred\x07\r\n", "[31mred"},
		{"SSH-2.0-\r\n", ""},
		{"SSH-2.0", ""},
		{"HTTP/1.1 400\r\n", ""},
		{"SSH-2.0-" + strings.Repeat("x", 10_000), strings.Repeat("x", 251)},
	} {
		if got := software([]byte(tt.in)); got != tt.want {
			t.Errorf("software(%.40q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// A name is hostile text: nothing in it reaches a terminal but printable ASCII.
func FuzzSoftware(f *testing.F) {
	f.Add([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"))
	f.Add([]byte("lines before\nSSH-2.0-\x1b]0;x\x07\xff\r\n"))
	f.Add([]byte("SSH-"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := software(b)
		if len(got) > 255 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("software(%q) = %q", b, got)
		}
	})
}

func TestChoose(t *testing.T) {
	usable := func(l link.Link) link.Link {
		l.Encap, l.Up, l.Carrier = "ether", true, true
		l.IPv6 = []link.Address{{Prefix: netip.MustParsePrefix("fe80::1/64")}}
		return l
	}
	port := usable(link.Link{Index: 4, Name: "port", Master: 3})
	tentative := usable(link.Link{Index: 5, Name: "new"})
	tentative.IPv6 = []link.Address{{Prefix: netip.MustParsePrefix("fe80::1/64"), Tentative: true}}
	all := []link.Link{
		{Index: 1, Name: "lo", Encap: "loopback", Up: true, Carrier: true},
		usable(link.Link{Index: 2, Name: "eth0"}), usable(link.Link{Index: 3, Name: "br0", Kind: "bridge"}), port, tentative,
	}
	for _, tt := range []struct{ names, want, err string }{
		{"", "eth0 br0", ""},
		{"br0", "br0", ""},
		{"eth0 new", "eth0", ""},
		{"port", "", "port is a port of br0: use that"},
		{"new", "", "new has no link-local address yet"},
		{"wlan0", "", `there is no interface "wlan0": this machine has lo, eth0, br0, port, new`},
	} {
		t.Run(tt.names, func(t *testing.T) {
			var names, got []string
			if tt.names != "" {
				names = strings.Fields(tt.names)
			}
			links, err := choose(all, names)
			for _, l := range links {
				got = append(got, l.Name)
			}
			if strings.Join(got, " ") != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("choose = %v, %v", got, err)
			}
		})
	}
	t.Run("no links", func(t *testing.T) {
		_, err := choose(all[:1], nil)
		var none *NoLinkError
		if !errors.As(err, &none) || !strings.Contains(err.Error(), "plug one in") {
			t.Errorf("choose = %v", err)
		}
	})
}
