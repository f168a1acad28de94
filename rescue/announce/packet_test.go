package announce

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// Offsets in the packet that mustMarshal makes of attic.
const (
	atNA     = ipv6HeaderLen
	atLLA    = atNA + naHeaderLen
	atOption = atLLA + 8
)

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name     string
		change   func(p []byte) []byte
		checksum bool // correct the checksum afterwards
		none     bool // a valid Neighbor Advertisement
	}{
		{"empty", func(p []byte) []byte { return nil }, false, false},
		{"IPv4", func(p []byte) []byte { p[0] = 0x45; return p }, true, false},
		{"extension header first", func(p []byte) []byte { p[6] = 0; return p }, true, false},
		{"hop limit 254", func(p []byte) []byte { p[7] = 254; return p }, true, false},
		{"payload longer than the packet", func(p []byte) []byte { p[5]++; return p }, false, false},
		{"payload shorter than the message", func(p []byte) []byte { p[5] = 20; return p }, false, false},
		{"payload ends in an option", func(p []byte) []byte { p[5] -= 8; return p[:len(p)-8] }, true, false},
		{"payload ends in a header of an option", func(p []byte) []byte { p[5] -= 7; return p[:len(p)-7] }, true, false},
		{"multicast source", func(p []byte) []byte { p[8] = 0xff; return p }, true, false},
		{"no source", func(p []byte) []byte { clear(p[8:24]); return p }, true, false},
		{"type 135", func(p []byte) []byte { p[atNA]--; return p }, true, false},
		{"code 1", func(p []byte) []byte { p[atNA+1] = 1; return p }, true, false},
		{"wrong checksum", func(p []byte) []byte { p[atNA+2] ^= 1; return p }, false, false},
		{"solicited to a group", func(p []byte) []byte { p[atNA+4] |= naSolicited; return p }, true, false},
		{"multicast target", func(p []byte) []byte { p[atNA+8] = 0xff; return p }, true, false},
		{"another target", func(p []byte) []byte { p[atNA+23]++; return p }, true, false},
		{"another MAC address", func(p []byte) []byte { p[atLLA+7]++; return p }, true, false},
		{"another router flag", func(p []byte) []byte { p[atNA+4] ^= naRouter; return p }, true, false},
		{"option of length 0", func(p []byte) []byte { p[atLLA+1] = 0; return p }, true, false},
		{"option longer than the message", func(p []byte) []byte { p[atOption+1]++; return p }, true, false},
		{"announcement without room for a signature", func(p []byte) []byte {
			p[atOption+1] = 2
			p[5] = naHeaderLen + 8 + 16
			return p[:atOption+16]
		}, true, false},
		{"signature in the hostname", func(p []byte) []byte { p[atOption+offSignature] = offName + 4; return p }, true, false},
		{"signature behind the end", func(p []byte) []byte { p[atOption+offSignature] = 248 - 63; return p }, true, false},
		{"hostname of 64 bytes", func(p []byte) []byte { p[atOption+offNameLen] = 64; return p }, true, false},
		{"hostname that paints the terminal", func(p []byte) []byte { p[atOption+offName] = 0x1b; return p }, true, false},
		{"hostname that is not UTF-8", func(p []byte) []byte { p[atOption+offName] = 0xff; return p }, true, false},

		{"no announcement", func(p []byte) []byte { p[5] = naHeaderLen + 8; return p[:atOption] }, true, true},
		{"no option at all", func(p []byte) []byte { p[5] = naHeaderLen; return p[:atLLA] }, true, true},
		{"type 254", func(p []byte) []byte { p[atOption]++; return p }, true, true},
		{"another experiment", func(p []byte) []byte { p[atOption+offMagic]++; return p }, true, true},
		{"version 2", func(p []byte) []byte { p[atOption+offVersion]++; return p }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := attic()
			p := tt.change(mustMarshal(t, &a))
			if tt.checksum {
				fixChecksum(p)
			}
			got, err := Parse(p)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if errors.Is(err, ErrNoAnnouncement) != tt.none {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestParseTolerates(t *testing.T) {
	// insert puts options in front of the announcement.
	insert := func(options ...byte) func(p []byte) []byte {
		return func(p []byte) []byte {
			p = slices.Insert(p, atOption, options...)
			n := len(p) - ipv6HeaderLen
			p[4], p[5] = byte(n>>8), byte(n)
			fixChecksum(p)
			return p
		}
	}
	for _, tt := range []struct {
		name   string
		change func(p []byte) []byte
	}{
		{"padding of the link", func(p []byte) []byte { return append(p, make([]byte, 7)...) }},
		{"another option", insert(1, 1, 2, 0, 0, 0, 0, 9)},
		// mdlayher/ndp v1.1.0 refuses the whole message for this one.
		{"option of 256 bytes", insert(append([]byte{200, 32}, make([]byte, 254)...)...)},
		{"another experiment of type 253", insert(253, 1, 'R', 'S', 'C', '7', 1, 0)},
		{"type 253 and nothing else", insert(253, 1, 0, 0, 0, 0, 0, 0)},
		{"a second target link-layer address", insert(2, 1, 2, 0, 0, 0, 0, 9)},
		{"reserved bits of the Neighbor Advertisement", func(p []byte) []byte { p[atNA+7] = 1; fixChecksum(p); return p }},
		{"no override", func(p []byte) []byte { p[atNA+4] &^= 1 << 5; fixChecksum(p); return p }},
		{"no target link-layer address", func(p []byte) []byte {
			p = slices.Delete(p, atLLA, atOption)
			p[5] -= 8
			fixChecksum(p)
			return p
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := attic()
			got, err := Parse(tt.change(mustMarshal(t, &a)))
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseCopies(t *testing.T) {
	a := attic()
	p := mustMarshal(t, &a)
	got, err := Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p {
		p[i] = 0xff
	}
	if err := got.Verify(); err != nil {
		t.Errorf("after the buffer was used again: %v", err)
	}
}

// FuzzParse checks that no packet does harm, and that what is accepted and
// encoded again says the same.
func FuzzParse(f *testing.F) {
	a := attic()
	packet := mustMarshal(f, &a)
	f.Add(packet)
	f.Add(later(f))
	f.Add(packet[:atOption])
	f.Add(packet[:atLLA])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		// Without this the fuzzer would have to guess checksums.
		if len(p) > ipv6HeaderLen+4 {
			fixChecksum(p)
		}
		a, err := Parse(p)
		if err != nil {
			return
		}
		if a.Hostname != "" && !validLabel(a.Hostname) {
			t.Fatalf("hostname %q", a.Hostname)
		}
		if !a.Target.IsLinkLocalUnicast() {
			t.Fatalf("target %v", a.Target)
		}
		valid := a.Verify() == nil
		if message, armored := a.SSHSIG(); message == nil || armored == nil {
			t.Fatal("no SSHSIG of a parsed announcement")
		}
		again, err := a.Marshal()
		if err != nil {
			t.Fatalf("encoding what was parsed: %v", err)
		}
		b, err := Parse(again)
		if err != nil {
			t.Fatalf("parsing what was encoded: %v", err)
		}
		third, err := b.Marshal()
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("encoded again: %v\n%x\n%x", err, again, third)
		}
		if valid != (b.Verify() == nil) {
			t.Fatal("the signature is valid only before or after")
		}
	})
}
