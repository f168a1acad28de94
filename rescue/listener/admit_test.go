package listener

import (
	"net/netip"
	"testing"
)

func TestVictim(t *testing.T) {
	a, b, c := netip.MustParseAddr("fe80::a%1"), netip.MustParseAddr("fe80::b%1"), netip.MustParseAddr("fe80::c%1")
	for _, tt := range []struct {
		name     string
		sources  []netip.Addr
		newcomer netip.Addr
		want     int
	}{
		{"nobody else", nil, a, -1},
		{"the newcomer is the greedy one", []netip.Addr{a, a, b}, a, -1},
		{"the greedy one's newest goes", []netip.Addr{a, a, b}, c, 1},
		{"greed counts, not age", []netip.Addr{b, a, a, a, c}, b, 3},
		{"all alike: the newest of them", []netip.Addr{a, b}, c, -1},
		{"a newcomer with one of its own against two", []netip.Addr{a, b, b, b}, a, 3},
	} {
		if got := victim(tt.sources, tt.newcomer); got != tt.want {
			t.Errorf("%s: victim = %d, want %d", tt.name, got, tt.want)
		}
	}
}
