package identity

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// The label address of a key is printed on labels: it must never change.
func TestLabelAddressIsStable(t *testing.T) {
	pub := testKey.Public().(ed25519.PublicKey)
	if got, want := LabelAddress(pub), netip.MustParseAddr("fe80::4de:9767:6164:719"); got != want {
		t.Errorf("LabelAddress = %s, want %s", got, want)
	}
}

func TestLabelAddressIsLocal(t *testing.T) {
	prefix := netip.MustParsePrefix("fe80::/64")
	for seed := range byte(64) {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
		a := LabelAddress(key.Public().(ed25519.PublicKey))
		if !prefix.Contains(a) {
			t.Errorf("%s is not in %s", a, prefix)
		}
		if b := a.As16(); b[8]&0x03 != 0 {
			t.Errorf("%s: universal/local and group bits are %02b, want 00", a, b[8]&0x03)
		}
	}
}

// x/crypto/ssh is the foreign judge of our own encoding.
func TestKeyEncodings(t *testing.T) {
	pub := testKey.Public().(ed25519.PublicKey)
	foreign, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Blob(pub), foreign.Marshal()) {
		t.Errorf("Blob = %x, want %x", Blob(pub), foreign.Marshal())
	}
	if got, want := Fingerprint(pub), ssh.FingerprintSHA256(foreign); got != want {
		t.Errorf("Fingerprint = %s, want %s", got, want)
	}
	if got, want := AuthorizedKey(pub), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(foreign))); got != want {
		t.Errorf("AuthorizedKey = %s, want %s", got, want)
	}
}

func TestEUI64(t *testing.T) {
	for _, tt := range []struct {
		mac  []byte
		want string
	}{
		{[]byte{0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56}, "fe80::ba27:ebff:fe12:3456"},
		{[]byte{0x02, 0, 0, 0, 0, 1}, "fe80::ff:fe00:1"},
	} {
		if got := EUI64(tt.mac); got != netip.MustParseAddr(tt.want) {
			t.Errorf("EUI64(%x) = %s, want %s", tt.mac, got, tt.want)
		}
	}
	if a := EUI64(make([]byte, 20)); a.IsValid() {
		t.Errorf("EUI64 of an InfiniBand address = %s, want none", a)
	}
}

func TestKeysRoundTrip(t *testing.T) {
	want := Keys{HostSeed: testKey.Seed(), AuthorizedKeys: []byte("ssh-ed25519 AAAA\n")}
	var b bytes.Buffer
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKeys(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.HostKey().Equal(testKey) || !bytes.Equal(got.AuthorizedKeys, want.AuthorizedKeys) {
		t.Errorf("ReadKeys = %v, want %v", got, want)
	}
	for _, bad := range []string{"", "{", `{"host_seed":"AAAA"}`, strings.Repeat("x", 1<<21)} {
		if _, err := ReadKeys(strings.NewReader(bad)); err == nil {
			t.Errorf("ReadKeys(%.20q): no error", bad)
		}
	}
}
