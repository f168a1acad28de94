package scan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"rescue6/rescue/link"
)

// ErrNotPermitted says that this process may not send an echo. The error that
// wraps it names the fix.
var ErrNotPermitted = errors.New("sending an echo is not permitted")

// echoSocket sends echoes to all nodes and receives the answers.
type echoSocket struct {
	echo
	conn *ipv6.PacketConn

	mu   sync.Mutex
	sent map[[2]int]time.Time // by round and index of the link
}

// openEcho opens a socket that needs no privilege where the system allows it, else
// a raw one.
func openEcho() (*echoSocket, error) {
	conn, err := icmp.ListenPacket("udp6", "::")
	datagram := err == nil
	if !datagram {
		if conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::"); err != nil {
			return nil, explain(err)
		}
	}
	s := &echoSocket{echo: newEcho(datagram), conn: conn.IPv6PacketConn(), sent: make(map[[2]int]time.Time)}
	if !datagram {
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
	if readErr != nil {
		return fmt.Errorf("%w: run it with sudo", ErrNotPermitted)
	}
	return fmt.Errorf("%w: ping_group_range is %s: sudo sysctl -w net.ipv4.ping_group_range='0 2147483647' (or run it with sudo)",
		ErrNotPermitted, strings.Join(strings.Fields(string(b)), " "))
}

// Close ends receive.
func (s *echoSocket) Close() error { return s.conn.Close() }

// send sends one echo to all nodes (RFC 4291 §2.7.1) of each link. A link that
// fails now may work in the next round: only if all fail, that is an error.
func (s *echoSocket) send(round int, links []link.Link) error {
	var errs []error
	for _, l := range links {
		s.mu.Lock()
		s.sent[[2]int{round, l.Index}] = time.Now()
		s.mu.Unlock()
		_, err := s.conn.WriteTo(s.request(round, l.Index), nil, s.to(l.Index))
		if err != nil {
			errs = append(errs, fmt.Errorf("sending an echo on %s: %w", l.Name, err))
		}
	}
	if len(errs) < len(links) {
		return nil
	}
	return errors.Join(errs...)
}

// to returns the group of all nodes on a link, in the type that the socket wants.
func (s *echoSocket) to(index int) net.Addr {
	if s.anyID {
		return &net.UDPAddr{IP: net.IPv6linklocalallnodes, Zone: strconv.Itoa(index)}
	}
	return &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: strconv.Itoa(index)}
}

// reply is one answer.
type reply struct {
	place
	at  time.Time
	rtt time.Duration
}

// maxErrors is how many errors in a row end receive. One may come alone: the
// kernel reports ICMP errors that others sent.
const maxErrors = 100

// receive sends each valid answer to replies and closes it when the socket has
// been closed.
func (s *echoSocket) receive(replies chan<- reply) {
	defer close(replies)
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
		if r, ok := s.accept(buf[:n], cm, from, at); ok {
			replies <- r
		}
	}
}

// accept checks one message.
func (s *echoSocket) accept(b []byte, cm *ipv6.ControlMessage, from net.Addr, at time.Time) (reply, bool) {
	round, index, ok := s.parseReply(b)
	if !ok {
		return reply{}, false
	}
	s.mu.Lock()
	sent, ok := s.sent[[2]int{round, index}]
	s.mu.Unlock()
	addr := ipOf(from)
	if !ok || !addr.IsLinkLocalUnicast() {
		return reply{}, false
	}
	// The own answer comes through the loopback. Any other counts for the link
	// that it came on.
	if cm != nil && cm.IfIndex > 0 && !isLoopback(cm.IfIndex) {
		index = cm.IfIndex
	}
	return reply{place: place{index, addr}, at: at, rtt: at.Sub(sent)}, true
}

// loopback is the index of the loopback in every network namespace
// (LOOPBACK_IFINDEX of the kernel's net/flow.h).
const loopback = 1

func isLoopback(index int) bool { return index == loopback }

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
