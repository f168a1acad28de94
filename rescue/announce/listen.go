//go:build linux

package announce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a listener hands on at most, whatever is sent to it: the caller verifies
// signatures, and that is what costs. Two hundred instances that announce both
// their addresses three times when the power comes back are within the burst.
const (
	listenRate  = 200  // announcements per second
	listenBurst = 1200 // announcements
)

// Listen receives announcements on an interface and calls fn for each, from the
// calling goroutine, until ctx ends; then it returns nil. from is the source of
// the packet, with the interface as its zone, and mac that of the frame, which
// may be another's than a.MAC. fn must check the signature with
// [Announcement.Verify]. Announcements that this host sends itself are not heard.
// More than some hundreds per second are dropped.
//
// It needs CAP_NET_RAW: without, the error wraps [os.ErrPermission]. It returns
// an error when the interface does not exist, or ceases to; not when it is down.
func Listen(ctx context.Context, ifname string, fn func(a Announcement, from netip.Addr, mac net.HardwareAddr)) error {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return fmt.Errorf("listening for announcements on %s: %w", ifname, err)
	}
	advertisements, err := filter()
	if err != nil {
		return fmt.Errorf("listening for announcements on %s: %w", ifname, err)
	}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IPV6, &packet.Config{Filter: advertisements})
	if err != nil {
		return fmt.Errorf("listening for announcements on %s: %w", ifname, err)
	}
	defer conn.Close()

	// Every interface with IPv6 hears the group already; this one is perhaps
	// without.
	if err := conn.JoinGroup(allNodesMAC); err != nil {
		return fmt.Errorf("listening for announcements on %s: joining all nodes: %w", ifname, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	limit := bucket{tokens: listenBurst, at: time.Now()}
	buf := make([]byte, 2048) // more than an Ethernet frame; no announcement comes near
	for {
		n, addr, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENETDOWN):
			// The socket goes on when the interface comes up again, but not
			// if another one took its name.
			if now, err := net.InterfaceByName(ifname); err != nil || now.Index != ifi.Index {
				return fmt.Errorf("listening for announcements on %s: the interface is gone", ifname)
			}
			continue
		case err != nil:
			return fmt.Errorf("listening for announcements on %s: %w", ifname, err)
		}
		a, err := Parse(buf[:n])
		if err != nil || !limit.take(time.Now()) {
			continue
		}
		var mac net.HardwareAddr
		if hw, ok := addr.(*packet.Addr); ok {
			mac = hw.HardwareAddr
		}
		source := netip.AddrFrom16([16]byte(buf[8:24]))
		fn(a, source.WithZone(ifname), mac)
	}
}

// filter is a socket filter that lets Neighbor Advertisements of others through.
// A datagram packet socket's packets begin with the IPv6 header.
func filter() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipv6HeaderLen, Size: 1}, // ICMPv6 type
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: naType, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
}

// A bucket limits a rate: it holds up to listenBurst tokens and gains listenRate
// per second.
type bucket struct {
	tokens float64
	at     time.Time
}

// take says whether there is a token at now, and takes it.
func (b *bucket) take(now time.Time) bool {
	b.tokens = min(listenBurst, b.tokens+now.Sub(b.at).Seconds()*listenRate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
