package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// Row 29: a neighbour sends what it likes. Logins go on, and nothing is repaired on
// its word.
func TestHostileLink(t *testing.T) {
	r := seed(t)
	l := newLab(t)
	l.start()
	label := l.label()
	l.mustLogin(label, "true")
	l.report("a settled link", settled)
	holder, worker := l.one("rescued", "holder"), l.one("rescued", "worker")

	var c *packet.Conn
	l.check(l.laptop.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
		}
		return err
	}))
	defer c.Close()
	all, liar := netip.MustParseAddr("ff02::1"), netip.MustParseAddr("fe80::bad")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 66}
	send := func(body []byte) {
		out := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
		out = append(out, 0x86, 0xdd, 0x60, 0, 0, 0, byte(len(body)>>8), byte(len(body)), 58, 255)
		out = append(out, liar.AsSlice()...)
		out = append(out, all.AsSlice()...)
		_, _ = c.WriteTo(append(out, body...), &packet.Addr{HardwareAddr: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}})
	}
	message := func(m ndp.Message) []byte {
		b, err := ndp.MarshalMessageChecksum(m, liar, all)
		l.check(err)
		return b
	}
	lla := func(d ndp.Direction) []ndp.Option {
		return []ndp.Option{&ndp.LinkLayerAddress{Direction: d, Addr: mac}}
	}
	spoofed := [][]byte{
		// Its own addresses, said by somebody else.
		message(&ndp.NeighborAdvertisement{Override: true, TargetAddress: eui64, Options: lla(ndp.Target)}),
		message(&ndp.NeighborAdvertisement{Override: true, TargetAddress: label.WithZone(""), Options: lla(ndp.Target)}),
		// A router that takes itself away, and prefixes that make no sense.
		message(&ndp.RouterAdvertisement{CurrentHopLimit: 1, RouterLifetime: 0, Options: lla(ndp.Source)}),
		message(&ndp.RouterAdvertisement{CurrentHopLimit: 255, RouterLifetime: 9000 * time.Second, Options: []ndp.Option{
			&ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
				ValidLifetime: time.Second, PreferredLifetime: time.Second, Prefix: netip.MustParseAddr("fe80::")},
			&ndp.PrefixInformation{PrefixLength: 3, OnLink: true, ValidLifetime: ndp.Infinity, Prefix: netip.MustParseAddr("2000::")},
		}}),
		message(&ndp.NeighborSolicitation{TargetAddress: eui64, Options: lla(ndp.Source)}),
	}
	began := time.Now()
	for range 10 {
		for range 50 {
			for _, m := range spoofed {
				send(m)
			}
			junk := make([]byte, r.IntN(1200)+4) // its checksum is wrong nearly always
			for i := range junk {
				junk[i] = byte(r.Uint32())
			}
			junk[0] = byte(128 + r.IntN(16))
			send(junk)
			short := append([]byte{}, spoofed[0][:24]...)
			send(append(short, 2, 0, 0, 0, 0, 0, 0, 0)) // an option of length 0
		}
		l.mustLogin(label, "true")
	}
	t.Logf("10 logins beside 3,500 frames in %v", time.Since(began).Round(time.Millisecond))
	r2 := l.report("a settled link", settled)
	if l.one("rescued", "holder") != holder || l.one("rescued", "worker") != worker || len(r2.Measures) > 0 {
		t.Errorf("holder or worker is another process, or a last resort was taken: %v", r2.Measures)
	}
}
