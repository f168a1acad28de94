package announce

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/mdlayher/ndp"
)

// testKey is a key that everybody knows, so that packets are the same each time.
func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x06}, ed25519.SeedSize))
}

// attic is an announcement with something in every field, not signed yet.
func attic() Announcement {
	return Announcement{
		Hostname: "attic",
		Port:     22,
		BootID:   [16]byte{0: 0xb0, 15: 0x1d},
		Sequence: 7,
		MAC:      net.HardwareAddr{0xb8, 0x27, 0xeb, 0x00, 0x00, 0x01},
		Target:   netip.MustParseAddr("fe80::ba27:ebff:fe00:1"),
		IPv4Dead: true,
	}
}

// mustMarshal signs a with testKey and returns its packet.
func mustMarshal(t testing.TB, a *Announcement) []byte {
	t.Helper()
	if err := a.Sign(testKey()); err != nil {
		t.Fatal(err)
	}
	packet, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// fixChecksum sets the ICMPv6 checksum of a packet whose headers are whole.
func fixChecksum(p []byte) {
	m := p[ipv6HeaderLen:]
	binary.BigEndian.PutUint16(m[2:], 0)
	binary.BigEndian.PutUint16(m[2:], checksum(p[8:40], m))
}

func TestRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Announcement)
	}{
		{"as it is", func(a *Announcement) {}},
		{"no name", func(a *Announcement) { a.Hostname = "" }},
		{"longest name", func(a *Announcement) { a.Hostname = strings.Repeat("x", 63) }},
		{"IPv4 alive", func(a *Announcement) { a.IPv4Dead = false }},
		{"router", func(a *Announcement) { a.Router = true }},
		{"greatest numbers", func(a *Announcement) { a.Port, a.Sequence = 65535, 1<<64-1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := attic()
			tt.change(&sent)
			packet := mustMarshal(t, &sent)

			// The length of the option is the second byte behind the headers
			// and the link-layer address option.
			if n := 8 * int(packet[ipv6HeaderLen+naHeaderLen+8+1]); n > maxOptionLen {
				t.Errorf("option of %d bytes", n)
			}
			if _, err := ndp.ParseMessage(packet[ipv6HeaderLen:]); err != nil {
				t.Errorf("mdlayher/ndp: %v", err)
			}
			got, err := Parse(packet)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Verify(); err != nil {
				t.Error(err)
			}
			got.extension = nil // empty or nil makes no difference
			if !reflect.DeepEqual(got, sent) {
				t.Errorf("got  %+v\nsent %+v", got, sent)
			}
		})
	}
}

// TestWireFormat holds the format to packets that were sent once: instances and
// laptops of different age must understand each other.
func TestWireFormat(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	a := attic()
	if got := mustMarshal(t, &a); !bytes.Equal(got, want) {
		t.Errorf("got\n%x\nwant\n%x", got, want)
	}
}

// later returns the packet of a version-1 announcement as a later release might
// send it: with a flag, an extension and padding that this one does not know.
func later(t testing.TB) []byte {
	t.Helper()
	a := attic()
	a.unknownFlags = 0x80
	a.extension = []byte("more")
	packet := mustMarshal(t, &a)
	packet = append(packet, "trailing"...)
	packet[ipv6HeaderLen+naHeaderLen+8+1]++
	packet[5] += 8
	fixChecksum(packet)
	return packet
}

func TestLaterReleaseIsUnderstood(t *testing.T) {
	a, err := Parse(later(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(); err != nil {
		t.Error(err)
	}
	if a.Hostname != "attic" || !a.IPv4Dead || a.Router {
		t.Errorf("got %+v", a)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	a := attic()
	packet := mustMarshal(t, &a)
	option := ipv6HeaderLen + naHeaderLen + 8
	end := option + offName + len(a.Hostname) + ed25519.SignatureSize
	for i := option + offMagic; i < end; i++ {
		for bit := range 8 {
			p := bytes.Clone(packet)
			p[i] ^= 1 << bit
			fixChecksum(p)
			if got, err := Parse(p); err == nil && got.Verify() == nil {
				t.Errorf("option byte %d, bit %d: nobody noticed", i-option, bit)
			}
		}
	}
}

func TestChangedFieldFailsVerify(t *testing.T) {
	for name, change := range map[string]func(*Announcement){
		"hostname":      func(a *Announcement) { a.Hostname = "cellar" },
		"port":          func(a *Announcement) { a.Port++ },
		"boot ID":       func(a *Announcement) { a.BootID[3]++ },
		"sequence":      func(a *Announcement) { a.Sequence++ },
		"MAC":           func(a *Announcement) { a.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 2} },
		"target":        func(a *Announcement) { a.Target = a.Target.Next() },
		"IPv4 dead":     func(a *Announcement) { a.IPv4Dead = !a.IPv4Dead },
		"router":        func(a *Announcement) { a.Router = !a.Router },
		"key":           func(a *Announcement) { a.Key = ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey) },
		"no key":        func(a *Announcement) { a.Key = nil },
		"no signature":  func(a *Announcement) { a.Signature = nil },
		"unknown flags": func(a *Announcement) { a.unknownFlags = 0x40 },
		"extension":     func(a *Announcement) { a.extension = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Parse(later(t))
			if err != nil {
				t.Fatal(err)
			}
			change(&a)
			if err := a.Verify(); !errors.Is(err, ErrSignature) {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	for name, change := range map[string]func(*Announcement){
		"hostname with a dot":     func(a *Announcement) { a.Hostname = "attic.example" },
		"hostname of 64 bytes":    func(a *Announcement) { a.Hostname = strings.Repeat("x", 64) },
		"hostname with an escape": func(a *Announcement) { a.Hostname = "\x1b[31m" },
		"MAC of 8 bytes":          func(a *Announcement) { a.MAC = make(net.HardwareAddr, 8) },
		"global target":           func(a *Announcement) { a.Target = netip.MustParseAddr("2001:db8::1") },
		"IPv4 target":             func(a *Announcement) { a.Target = netip.MustParseAddr("169.254.0.1") },
		"no target":               func(a *Announcement) { a.Target = netip.Addr{} },
		"extension that is too long": func(a *Announcement) {
			a.extension = make([]byte, maxMessageEnd-offName-len(a.Hostname)+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := attic()
			change(&a)
			if err := a.Sign(testKey()); err == nil {
				t.Error("signed")
			}
		})
	}
	unsigned := attic()
	unsigned.Key = testKey().Public().(ed25519.PublicKey)
	if _, err := unsigned.Marshal(); err == nil {
		t.Error("an unsigned announcement was encoded")
	}
	if err := unsigned.Sign(nil); err == nil {
		t.Error("signed without a key")
	}
}

func TestValidLabel(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "A9": true, "3com": true, "pi-4": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, "a.b": false, "a_b": false, "a b": false,
		"é": false, "a\x00": false, "a\n": false, strings.Repeat("x", 64): false,
	} {
		if got := validLabel(s); got != want {
			t.Errorf("validLabel(%q) = %v", s, got)
		}
	}
}
