package scan

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"rescue6/rescue/link/linktest"
)

// responder plays any number of hosts on one link: they answer echoes to groups, are
// resolved, and refuse connections.
type responder struct {
	hosts int
	conn  *packet.Conn
	send  []byte
}

func (r *responder) mac(i int) net.HardwareAddr {
	return net.HardwareAddr{2, 1, 0, byte(i >> 16), byte(i >> 8), byte(i)}
}

func (r *responder) addr(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// serve answers until the socket is closed.
func (r *responder) serve() {
	buf := make([]byte, 2048)
	for {
		n, _, err := r.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		f := buf[:n]
		if n < ethernetHeader+ipv6Header+8 || f[12] != 0x86 {
			continue
		}
		p := f[ethernetHeader:]
		from := netip.AddrFrom16([16]byte(p[8:24]))
		to := netip.AddrFrom16([16]byte(p[24:40]))
		body := p[ipv6Header:]
		switch {
		case p[6] == nextICMPv6 && body[0] == 128 && to == allNodes:
			for i := 1; i <= r.hosts; i++ {
				body[0] = 129
				r.answer(i, f[6:12], from, nextICMPv6, body)
			}
		case p[6] == nextICMPv6 && body[0] == 135 && len(body) >= 24:
			target := netip.AddrFrom16([16]byte(body[8:24]))
			if i := r.number(target); i > 0 && !from.IsUnspecified() {
				na := neighbour(136, 3<<5, target, append([]byte{2, 1}, r.mac(i)...)...)
				r.answer(i, f[6:12], from, nextICMPv6, na)
			}
		case p[6] == 6 && len(body) >= 20:
			if i := r.number(to); i > 0 {
				rst := make([]byte, 20) // RFC 9293 §3.1
				copy(rst, []byte{body[2], body[3], body[0], body[1]})
				binary.BigEndian.PutUint32(rst[8:], binary.BigEndian.Uint32(body[4:])+1)
				rst[12], rst[13] = 5<<4, 0x14
				r.answer(i, f[6:12], from, 6, rst)
			}
		}
	}
}

// number returns which host has an address, 0 if none has.
func (r *responder) number(a netip.Addr) int {
	b := a.As16()
	if i := int(b[13])<<16 | int(b[14])<<8 | int(b[15]); i <= r.hosts && a == r.addr(i) {
		return i
	}
	return 0
}

// answer sends a message of one of the hosts.
func (r *responder) answer(i int, toMAC []byte, to netip.Addr, next byte, message []byte) {
	f := append(r.send[:0], toMAC...)
	f = append(f, r.mac(i)...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(message)))
	f = append(f, next, 255)
	from := r.addr(i).As16()
	f = append(f, from[:]...)
	f = append(f, to.AsSlice()...)
	at := len(f)
	f = append(f, message...)
	sum := at + 2
	if next == 6 {
		sum = at + 16
	}
	f[sum], f[sum+1] = 0, 0
	binary.BigEndian.PutUint16(f[sum:], checksum(f[22:54], uint32(next), f[at:]))
	r.send = f
	for range 1000 { // the other end's queue may be full for a moment
		if _, err := r.conn.WriteTo(f, &packet.Addr{HardwareAddr: toMAC}); err == nil {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// playing returns a laptop on a link with that many hosts.
func playing(t testing.TB, hosts int) *linktest.Namespace {
	t.Helper()
	laptop, crowd := linktest.ForTest(t, "laptop"), linktest.ForTest(t, "crowd")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(linktest.Veth(laptop, "eth0", crowd, "eth0"))
	check(crowd.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"))
	check(crowd.SetUp("eth0"))
	check(laptop.SetUp("eth0"))
	_, err := laptop.LinkLocal(t.Context(), "eth0")
	check(err)
	r := &responder{hosts: hosts}
	check(crowd.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		r.conn, err = packet.Listen(ifi, packet.Raw, etherTypeIPv6, nil)
		return err
	}))
	check(r.conn.SetPromiscuous(true))
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serve()
	}()
	t.Cleanup(func() {
		r.conn.Close()
		<-done
	})
	return laptop
}

// Ten thousand hosts are found, at a cost for each that does not depend on how many
// there are.
func TestTenThousandHosts(t *testing.T) {
	for _, n := range []int{100, 1000, 10_000} {
		r := scanFrom(t, playing(t, n), Config{})
		hosts := 0
		for _, h := range r.Hosts {
			if !h.Self {
				hosts++
			}
		}
		t.Logf("%d hosts: %v, the last after %v; CPU %v a host; at most %d MB", hosts, r.Took.Round(time.Millisecond),
			r.Last.Round(time.Millisecond), (r.CPU / time.Duration(n)).Round(time.Microsecond), r.KiB>>10)
		if hosts != n {
			t.Errorf("%d hosts, want %d", hosts, n)
		}
		if want := max(0, n-maxStrangers); r.Unasked != want {
			t.Errorf("%d hosts were not asked for SSH, want %d", r.Unasked, want)
		}
		if r.Took > 20*time.Second || r.KiB > 200<<10 {
			t.Errorf("it took %v and %d MB", r.Took, r.KiB>>10)
		}
	}
}
