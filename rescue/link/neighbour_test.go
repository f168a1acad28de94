package link

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"rescue6/rescue/link/linktest"
)

func TestParseNeighbour(t *testing.T) {
	addr := netip.MustParseAddr("fe80::1").As16()
	head := func(family byte, state uint16) []byte {
		h := make([]byte, unix.SizeofNdMsg)
		h[0] = family
		native.PutUint32(h[4:], 7)
		native.PutUint16(h[8:], state)
		return h
	}
	dst, mac := attr(unix.NDA_DST, addr[:]...), attr(unix.NDA_LLADDR, 2, 0, 0, 0, 0, 1)
	for _, tt := range []struct {
		name string
		msg  []byte
		ok   bool
	}{
		{"stale", cat(head(unix.AF_INET6, unix.NUD_STALE), dst, mac), true},
		{"reachable", cat(head(unix.AF_INET6, unix.NUD_REACHABLE), dst, mac), true},
		{"failed", cat(head(unix.AF_INET6, unix.NUD_FAILED), dst, mac), false},
		{"a multicast group", cat(head(unix.AF_INET6, unix.NUD_NOARP), dst, mac), false},
		{"a bridge's", cat(head(unix.AF_BRIDGE, unix.NUD_REACHABLE), dst, mac), false},
		{"no MAC", cat(head(unix.AF_INET6, unix.NUD_STALE), dst), false},
		{"empty MAC", cat(head(unix.AF_INET6, unix.NUD_STALE), dst, attr(unix.NDA_LLADDR)), false},
		{"address of 3 bytes", cat(head(unix.AF_INET6, unix.NUD_STALE), attr(unix.NDA_DST, 1, 2, 3), mac), false},
		{"half a header", make([]byte, 5), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := parseNeighbour(tt.msg)
			if ok != tt.ok {
				t.Fatalf("parseNeighbour = %v, %v", n, ok)
			}
			if ok && (n.Index != 7 || n.Addr != netip.AddrFrom16(addr) || n.MAC.String() != "02:00:00:00:00:01") {
				t.Errorf("parseNeighbour = %v", n)
			}
		})
	}
}

func TestParseARPEntry(t *testing.T) {
	h := make([]byte, unix.SizeofNdMsg)
	h[0] = unix.AF_INET
	native.PutUint16(h[8:], unix.NUD_REACHABLE)
	n, ok := parseNeighbour(cat(h, attr(unix.NDA_DST, 192, 0, 2, 1), attr(unix.NDA_LLADDR, 2, 0, 0, 0, 0, 1)))
	if !ok || n.Addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("parseNeighbour = %v, %v", n, ok)
	}
}

// iproute2 adds an entry; we see it.
func TestNeighbours(t *testing.T) {
	n := linktest.ForTest(t, "n")
	if err := linktest.Veth(n, "a", n, "b"); err != nil {
		t.Fatal(err)
	}
	if err := n.SetUp("a", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Run(t.Context(), "ip", "neigh", "add", "fe80::7", "lladdr", "02:00:00:00:00:07", "dev", "a", "nud", "stale"); err != nil {
		t.Fatal(err)
	}
	err := n.Do(func() error {
		ifi, err := net.InterfaceByName("a")
		if err != nil {
			return err
		}
		all, err := Neighbours()
		for _, e := range all {
			if e.Addr == netip.MustParseAddr("fe80::7") && e.Index == ifi.Index && e.MAC.String() == "02:00:00:00:00:07" {
				return err
			}
		}
		t.Errorf("Neighbours = %v", all)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
