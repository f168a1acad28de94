package mdns

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var home = zone{
	Service: Service{Hostname: "attic", Port: 22, Fingerprint: "SHA256:abc"}, label: "attic",
	addrs: []netip.Addr{netip.MustParseAddr("fe80::1")},
}

func ask(t testing.TB, name string, kind dnsmessage.Type, class dnsmessage.Class) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: class}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnswer(t *testing.T) {
	const in = dnsmessage.ClassINET
	for _, tt := range []struct {
		name   string
		kind   dnsmessage.Type
		class  dnsmessage.Class
		legacy bool
		want   []dnsmessage.Type // of the answers; none: there is no answer
		alone  bool
	}{
		{"attic.local.", dnsmessage.TypeAAAA, in, false, []dnsmessage.Type{dnsmessage.TypeAAAA}, false},
		{"ATTIC.local.", dnsmessage.TypeAAAA, in | unicast, false, []dnsmessage.Type{dnsmessage.TypeAAAA}, true},
		{"attic.local.", dnsmessage.TypeAAAA, in, true, []dnsmessage.Type{dnsmessage.TypeAAAA}, true},
		{"attic.local.", dnsmessage.TypeA, in, false, nil, false},
		{"attic.local.", dnsmessage.TypeAAAA, dnsmessage.ClassCHAOS, false, nil, false},
		{"cellar.local.", dnsmessage.TypeAAAA, in, false, nil, false},
		{"_ssh._tcp.local.", dnsmessage.TypePTR, in, false, []dnsmessage.Type{dnsmessage.TypePTR}, false},
		{"attic._rescue6._tcp.local.", dnsmessage.TypeALL, in, false, []dnsmessage.Type{dnsmessage.TypeSRV, dnsmessage.TypeTXT}, false},
		{allServices, dnsmessage.TypePTR, in, false, []dnsmessage.Type{dnsmessage.TypePTR, dnsmessage.TypePTR}, false},
		{reverseName(home.addrs[0]), dnsmessage.TypePTR, in, false, []dnsmessage.Type{dnsmessage.TypePTR}, false},
	} {
		reply, alone, err := home.answer(ask(t, tt.name, tt.kind, tt.class), tt.legacy)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%s %v: %v", tt.name, tt.kind, err)
			continue
		}
		if err != nil {
			continue
		}
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		var got []dnsmessage.Type
		for _, r := range m.Answers {
			got = append(got, r.Header.Type)
			if tt.legacy && (r.Header.Class != in || r.Header.TTL > legacyTTL) {
				t.Errorf("%s: a plain resolver gets class %d and TTL %d", tt.name, r.Header.Class, r.Header.TTL)
			}
		}
		if !slices.Equal(got, tt.want) || alone != tt.alone || tt.legacy != (m.ID == 7) {
			t.Errorf("%s %v: answers %v, alone %t, ID %d", tt.name, tt.kind, got, alone, m.ID)
		}
	}
}

// Of two that want a name at the same time, exactly one gives in; and one that
// another has is given up.
func TestClaims(t *testing.T) {
	other := home
	other.addrs = []netip.Addr{netip.MustParseAddr("fe80::2")}
	own := func(z zone) func(netip.Addr) bool {
		return func(a netip.Addr) bool { return slices.Contains(z.addrs, a) }
	}
	mine, err := home.probe()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := other.probe()
	if err != nil {
		t.Fatal(err)
	}
	if !home.outvoted(theirs, own(home)) || other.outvoted(mine, own(other)) || home.outvoted(mine, own(home)) {
		t.Error("not the one with the lesser address gives in")
	}
	said, err := other.announcement()
	if err != nil {
		t.Fatal(err)
	}
	if !home.conflicts(said, own(home)) || other.conflicts(said, own(other)) {
		t.Error("a name that another has is not seen as such, or the own is")
	}
	cellar := home
	cellar.label = "cellar"
	if cellar.conflicts(said, own(cellar)) || cellar.outvoted(theirs, own(cellar)) {
		t.Error("another name is in the way")
	}
}

func TestFloodOfQuestions(t *testing.T) {
	r := New(home.Service, slog.New(slog.DiscardHandler))
	r.last = time.Now()
	answered := 0
	for range 1000 {
		if r.spend() {
			answered++
		}
	}
	if answered > answerBurst+answerRate {
		t.Errorf("%d of 1000 questions at once are answered", answered)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(ask(f, "attic.local.", dnsmessage.TypeALL, dnsmessage.ClassINET))
	for _, make := range []func() ([]byte, error){home.probe, home.announcement} {
		b, err := make()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		nobody := func(netip.Addr) bool { return false }
		home.conflicts(b, nobody)
		home.outvoted(b, nobody)
		for _, legacy := range []bool{false, true} {
			if reply, _, err := home.answer(b, legacy); err == nil && len(reply) > 9000 {
				t.Errorf("%d bytes are answered to %d", len(reply), len(b))
			}
		}
	})
}
