package link

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rescue6/rescue/identity"
	"rescue6/rescue/link/linktest"
)

// cable returns two namespaces with an eth0 each, connected and raised.
func cable(t *testing.T) (a, b *linktest.Namespace) {
	t.Helper()
	a, b = linktest.ForTest(t, "a"), linktest.ForTest(t, "b")
	err := errors.Join(linktest.Veth(a, "eth0", b, "eth0"), a.SetUp("eth0"), b.SetUp("eth0"))
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// do calls one of the package's functions inside a namespace.
func do(t *testing.T, n *linktest.Namespace, f func() error) {
	t.Helper()
	if err := n.Do(f); err != nil {
		t.Fatal(err)
	}
}

// find returns an address of eth0 as List shows it.
func find(t *testing.T, n *linktest.Namespace, addr netip.Addr) (Address, bool) {
	t.Helper()
	all := get(t, n, "eth0").IPv6
	i := slices.IndexFunc(all, func(a Address) bool { return a.Prefix.Addr() == addr })
	if i < 0 {
		return Address{}, false
	}
	return all[i], true
}

// waitState waits until an address of eth0 is there and as wanted.
func waitState(t *testing.T, n *linktest.Namespace, addr netip.Addr, what string, ok func(Address) bool) {
	t.Helper()
	err := n.WaitFor(t.Context(), addr.String()+" to be "+what, func() (bool, error) {
		a, there := find(t, n, addr)
		return there && ok(a), nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, ip(t, n, "addr"))
	}
}

// A flushed link-local address is back, usable, well within a second.
func TestRegenerate(t *testing.T) {
	a, _ := cable(t)
	addr, err := a.LinkLocal(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	eth0 := get(t, a, "eth0")
	if want := identity.EUI64(eth0.MAC); addr.WithZone("") != want {
		t.Fatalf("the kernel made %s, want %s", addr, want)
	}
	for _, mode := range []string{"eui64", "none", "random"} {
		ip(t, a, "link", "set", "dev", "eth0", "addrgenmode", mode)
		ip(t, a, "-6", "addr", "flush", "dev", "eth0")
		if l := get(t, a, "eth0"); len(l.IPv6) != 0 {
			t.Fatalf("addresses after a flush: %v", l.IPv6)
		}
		start := time.Now()
		do(t, a, func() error { return Regenerate(eth0.Index) })
		waitState(t, a, addr.WithZone(""), "usable", Address.Usable)
		if took := time.Since(start); took > 900*time.Millisecond {
			t.Errorf("after mode %s the address took %s", mode, took)
		}
		if l := get(t, a, "eth0"); l.AddrGenMode != AddrGenEUI64 || len(l.IPv6) != 1 {
			t.Errorf("after mode %s: %+v", mode, l)
		}
	}
	// Once more changes nothing.
	do(t, a, func() error { return Regenerate(eth0.Index) })
	if got := get(t, a, "eth0").IPv6; len(got) != 1 || got[0].Prefix.Addr() != addr.WithZone("") {
		t.Errorf("after regenerating twice: %v", got)
	}
}

func TestEnableIPv6(t *testing.T) {
	a, _ := cable(t)
	if err := a.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	eth0 := get(t, a, "eth0")
	if !eth0.IPv6Disabled || len(eth0.IPv6) != 0 {
		t.Fatalf("IPv6 is not off: %+v", eth0)
	}
	for range 2 {
		do(t, a, func() error { return EnableIPv6(eth0.Index) })
		if got := sysctl(t, a, "eth0", "disable_ipv6"); got != 0 {
			t.Errorf("disable_ipv6 is %d", got)
		}
		waitState(t, a, identity.EUI64(eth0.MAC), "usable", Address.Usable)
	}
}

func TestSetUp(t *testing.T) {
	a, b := cable(t)
	if err := a.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	eth0 := get(t, a, "eth0")
	if eth0.Up || get(t, b, "eth0").Carrier {
		t.Fatal("the link is up after it was taken down")
	}
	for range 2 {
		do(t, a, func() error { return SetUp(eth0.Index) })
		if !get(t, a, "eth0").Up || !get(t, b, "eth0").Carrier {
			t.Fatal("the link is down after SetUp")
		}
	}
}

// Without DAD an address can be bound at once; with DAD it cannot.
func TestAddAddress(t *testing.T) {
	a, _ := cable(t)
	if _, err := a.LinkLocal(t.Context(), "eth0"); err != nil {
		t.Fatal(err)
	}
	index := get(t, a, "eth0").Index
	bind := func(addr netip.Addr) error {
		l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: addr.AsSlice(), Zone: strconv.Itoa(index)})
		if err != nil {
			return err
		}
		return l.Close()
	}
	nodad, slow := netip.MustParseAddr("fe80::1:1"), netip.MustParseAddr("fe80::1:2")
	do(t, a, func() error {
		if err := AddAddress(index, nodad, true); err != nil {
			return err
		}
		return bind(nodad)
	})
	do(t, a, func() error { return AddAddress(index, slow, false) })
	if got, ok := find(t, a, slow); !ok || !got.Tentative || got.Usable() || got.Prefix.Bits() != 64 {
		t.Errorf("right after AddAddress with DAD: %+v, %t", got, ok)
	}
	if err := a.Do(func() error { return bind(slow) }); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("binding a tentative address: %v, want %v", err, unix.EADDRNOTAVAIL)
	}
	waitState(t, a, slow, "usable", Address.Usable)
	do(t, a, func() error { return bind(slow) })

	// Adding again is fine and changes nothing, deleting twice too.
	for _, addr := range []netip.Addr{nodad, slow} {
		do(t, a, func() error { return AddAddress(index, addr, false) })
		if got, ok := find(t, a, addr); !ok || !got.Usable() {
			t.Errorf("%s after adding it again: %+v, %t", addr, got, ok)
		}
		for range 2 {
			do(t, a, func() error { return DelAddress(index, addr) })
			if got, ok := find(t, a, addr); ok {
				t.Errorf("%s is still there: %+v", addr, got)
			}
		}
	}
}

// An address that somebody added with another prefix can be deleted.
func TestDelAddressOfAnyPrefix(t *testing.T) {
	a, _ := cable(t)
	ip(t, a, "addr", "add", "fe80::5/128", "dev", "eth0")
	do(t, a, func() error { return DelAddress(get(t, a, "eth0").Index, netip.MustParseAddr("fe80::5")) })
	if got, ok := find(t, a, netip.MustParseAddr("fe80::5")); ok {
		t.Errorf("still there: %+v", got)
	}
}

// A neighbour that has the address makes DAD fail; that is visible, lasts, and
// ends with deleting and adding once the neighbour has gone.
func TestDADFailed(t *testing.T) {
	a, b := cable(t)
	for _, n := range []*linktest.Namespace{a, b} {
		if _, err := n.LinkLocal(t.Context(), "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	addr := netip.MustParseAddr("fe80::99")
	index := map[*linktest.Namespace]int{a: get(t, a, "eth0").Index, b: get(t, b, "eth0").Index}
	do(t, b, func() error { return AddAddress(index[b], addr, true) })
	do(t, a, func() error { return AddAddress(index[a], addr, false) })
	waitState(t, a, addr, "dadfailed", func(x Address) bool { return x.DADFailed && !x.Usable() })

	do(t, b, func() error { return DelAddress(index[b], addr) })
	do(t, a, func() error { return AddAddress(index[a], addr, false) })
	if got, _ := find(t, a, addr); !got.DADFailed {
		t.Errorf("adding alone changed a failed address: %+v", got)
	}
	do(t, a, func() error { return DelAddress(index[a], addr) })
	do(t, a, func() error { return AddAddress(index[a], addr, false) })
	waitState(t, a, addr, "usable", Address.Usable)
}

// FastDAD is what makes addresses usable quickly on a link that has the kernel's
// defaults.
func TestFastDAD(t *testing.T) {
	a, b := linktest.ForTest(t, "a"), linktest.ForTest(t, "b")
	if err := linktest.Veth(a, "eth0", b, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*linktest.Namespace{a, b} {
		err := errors.Join(n.Sysctl("net/ipv6/conf/eth0/router_solicitation_delay", "1"),
			n.Sysctl("net/ipv6/neigh/eth0/retrans_time_ms", "1000"))
		if err != nil {
			t.Fatal(err)
		}
	}
	do(t, a, func() error {
		return errors.Join(FastDAD(get(t, a, "eth0").Index), SetUp(get(t, a, "eth0").Index))
	})
	do(t, b, func() error { return SetUp(get(t, b, "eth0").Index) })
	start := time.Now()
	waitState(t, a, identity.EUI64(get(t, a, "eth0").MAC), "usable", Address.Usable)
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Errorf("usable after %s, want about 0.1 s", took)
	}
	if got, ok := find(t, b, identity.EUI64(get(t, b, "eth0").MAC)); !ok || got.Usable() {
		t.Errorf("the other end, with the kernel's defaults, is as fast: %+v, %t", got, ok)
	}
}

// Errors name the link, what was to be done, and where possible what helps.
func TestErrors(t *testing.T) {
	n := linktest.ForTest(t, "n")
	if err := linktest.Veth(n, "small", n, "peer"); err != nil {
		t.Fatal(err)
	}
	ip(t, n, "link", "set", "dev", "small", "mtu", "1000")
	small := get(t, n, "small").Index
	fe80 := netip.MustParseAddr("fe80::1")
	for _, tt := range []struct {
		name string
		f    func() error
		want string
		is   error
	}{
		{"SetUp", func() error { return SetUp(4711) }, "raising link 4711: no such device", unix.ENODEV},
		{"EnableIPv6", func() error { return EnableIPv6(4711) }, "enabling IPv6 on link 4711: no such device", unix.ENODEV},
		{"AddAddress", func() error { return AddAddress(4711, fe80, true) }, "adding fe80::1 to link 4711: no such device", unix.ENODEV},
		{"IPv4", func() error { return AddAddress(small, netip.MustParseAddr("192.0.2.1"), true) }, "192.0.2.1 is no IPv6 address", nil},
		{"no address", func() error { return AddAddress(small, netip.Addr{}, true) }, "is no IPv6 address", nil},
		{"MTU", func() error { return Regenerate(small) }, "regenerating the link-local address on small: it has no IPv6; is its MTU below 1280?", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := n.Do(tt.f)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
		})
	}
	// What is not there need not be removed, but the link has to be.
	do(t, n, func() error { return DelAddress(small, fe80) })
}
