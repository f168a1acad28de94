package scan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"rescue6/rescue/link"
)

// frameSocket sends and sees whole frames of one link, past this machine's own
// firewall: it needs CAP_NET_RAW.
type frameSocket struct {
	nonce
	link link.Link
	conn *packet.Conn
}

// frameBuffer is what the kernel may keep for us: thousands answer within
// milliseconds, and each frame is charged with its whole buffer, about 1 kB.
const frameBuffer = 32 << 20

func openFrames(n nonce, l link.Link) (*frameSocket, error) {
	wanted, err := frameFilter()
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC}, packet.Raw, etherTypeIPv6, &packet.Config{Filter: wanted})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s: %w", l.Name, err)
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { enlarge(fd, frameBuffer) })
	}
	// What is said to these groups is for us, too: MLD reports and mDNS.
	for _, g := range []netip.Addr{allNodes, mdnsGroup, netip.MustParseAddr("ff02::16")} {
		_ = conn.JoinGroup(groupMAC(g))
	}
	return &frameSocket{n, l, conn}, nil
}

// frameFilter lets ICMPv6 and mDNS of others through, also behind a Hop-by-Hop
// Options header.
func frameFilter() ([]bpf.RawInstruction, error) {
	const (
		outgoing = 4 // PACKET_OUTGOING (packet(7))
		next     = ethernetHeader + 6
		port     = ethernetHeader + ipv6Header // source port of UDP
	)
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 7},
		bpf.LoadAbsolute{Off: next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextICMPv6, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextHopByHop, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextUDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: port, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: mdnsPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
}

func (s *frameSocket) Close() error { return s.conn.Close() }
func (s *frameSocket) whole() bool  { return true }

func (s *frameSocket) send(p probe, l link.Link, from, to netip.Addr, mac net.HardwareAddr) error {
	if l.Index != s.link.Index {
		return nil
	}
	if to.IsMulticast() {
		mac = groupMAC(to)
	}
	_, err := s.conn.WriteTo(s.frame(p, from, to, s.link.MAC, mac), &packet.Addr{HardwareAddr: mac})
	if err != nil {
		return fmt.Errorf("sending on %s: %w", l.Name, err)
	}
	return nil
}

func (s *frameSocket) receive(fn func(answer)) {
	buf := make([]byte, 9216) // a jumbo frame
	for {
		n, _, err := s.conn.ReadFrom(buf)
		at := time.Now()
		switch {
		case errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // closed, or the link is gone
			return
		}
		if h, err := s.parseFrame(buf[:n]); err == nil {
			fn(answer{place{s.link.Index, h.addr}, h, at})
		}
	}
}
