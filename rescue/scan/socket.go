package scan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"rescue6/rescue/link"
)

// ErrNotPermitted says that this process may not send an echo. The error that
// wraps it names the fix.
var ErrNotPermitted = errors.New("sending an echo is not permitted")

// answer is what was heard, where and when.
type answer struct {
	place
	heard
	at time.Time
}

// wire sends probes and hands on what comes back.
type wire interface {
	// send sends a probe from one of the link's addresses; mac is that of whom a
	// unicast probe goes to.
	send(p probe, l link.Link, from, to netip.Addr, mac net.HardwareAddr) error
	// receive calls fn for all that is heard, until the wire is closed.
	receive(fn func(answer))
	// whole says whether it can send each kind of probe, and hears what others say.
	whole() bool
	Close() error
}

// openWires opens what this process may: a socket per link that sees whole frames,
// or one for all links that needs no privilege.
func openWires(n nonce, links []link.Link) ([]wire, error) {
	var wires []wire
	for _, l := range links {
		if w, err := openFrames(n, l); err == nil {
			wires = append(wires, w)
		}
	}
	if len(wires) > 0 {
		return wires, nil
	}
	w, err := openEcho(n)
	if err != nil {
		return nil, err
	}
	return []wire{w}, nil
}

// echoSocket sends echoes and receives the answers to them, without privilege
// where the system allows that.
type echoSocket struct {
	nonce
	conn *ipv6.PacketConn
}

// openEcho opens a datagram socket (Linux, macOS), else a raw one.
func openEcho(n nonce) (*echoSocket, error) {
	conn, err := icmp.ListenPacket("udp6", "::")
	n.anyID = err == nil
	if err != nil {
		if conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::"); err != nil {
			return nil, explain(err)
		}
	}
	s := &echoSocket{nonce: n, conn: conn.IPv6PacketConn()}
	if !n.anyID {
		var only ipv6.ICMPFilter
		only.SetAll(true)
		only.Accept(ipv6.ICMPTypeEchoReply)
		err = s.conn.SetICMPFilter(&only)
	}
	if err == nil {
		err = s.conn.SetControlMessage(ipv6.FlagInterface, true)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("preparing an ICMPv6 socket: %w", err)
	}
	return s, nil
}

// explain names the fix for a socket that could not be opened.
func explain(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("opening an ICMPv6 socket: %w", err)
	}
	const sysctl = "/proc/sys/net/ipv4/ping_group_range"
	b, readErr := os.ReadFile(sysctl)
	switch {
	case runtime.GOOS == "windows":
		return fmt.Errorf("%w: run it as administrator", ErrNotPermitted)
	case readErr != nil:
		return fmt.Errorf("%w: run it with sudo", ErrNotPermitted)
	}
	return fmt.Errorf("%w: ping_group_range is %s: sudo sysctl -w net.ipv4.ping_group_range='0 2147483647' (or run it with sudo)",
		ErrNotPermitted, strings.Join(strings.Fields(string(b)), " "))
}

func (s *echoSocket) Close() error { return s.conn.Close() }
func (s *echoSocket) whole() bool  { return false }

func (s *echoSocket) send(p probe, l link.Link, from, to netip.Addr, _ net.HardwareAddr) error {
	if p.via == ViaHopByHop || p.via == ViaDestination {
		return nil // that takes privilege
	}
	var dst net.Addr = &net.IPAddr{IP: to.AsSlice(), Zone: strconv.Itoa(l.Index)}
	if s.anyID {
		dst = &net.UDPAddr{IP: to.AsSlice(), Zone: strconv.Itoa(l.Index)}
	}
	if _, err := s.conn.WriteTo(s.request(p), &ipv6.ControlMessage{Src: from.AsSlice(), IfIndex: l.Index, HopLimit: 255}, dst); err != nil {
		return fmt.Errorf("sending an echo on %s: %w", l.Name, err)
	}
	return nil
}

// maxErrors is how many errors in a row end receive. One may come alone: the
// kernel reports ICMP errors that others sent.
const maxErrors = 100

func (s *echoSocket) receive(fn func(answer)) {
	buf := make([]byte, 2048)
	for failed := 0; failed < maxErrors; failed++ {
		n, cm, from, err := s.conn.ReadFrom(buf)
		at := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		failed = 0
		p, ok := s.parseReply(buf[:n])
		addr := ipOf(from)
		if !ok || !addr.Is6() {
			continue
		}
		// The own answer comes through the loopback. Any other counts for the link
		// that it came on.
		index := p.index
		if cm != nil && cm.IfIndex > 0 && cm.IfIndex != loopback {
			index = cm.IfIndex
		}
		fn(answer{place{index, addr}, heard{via: p.via, probe: p}, at})
	}
}

// loopback is the index of the loopback in every network namespace
// (LOOPBACK_IFINDEX of the kernel's net/flow.h).
const loopback = 1

// ipOf returns the source of a message without its zone.
func ipOf(from net.Addr) netip.Addr {
	var ip net.IP
	switch a := from.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr
}
