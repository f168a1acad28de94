package shell

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const pingUsage = usageError("usage: ping [-4|-6] [-c COUNT] [-i SECONDS] [-W SECONDS] HOST; HOST may have a zone: fe80::1%eth0")

// ping asks a host for echoes (RFC 792, RFC 4443 §4.1), and every host of a group.
// It needs root, which a session has.
func ping(ctx context.Context, s stdio, args []string) error {
	f := flag.NewFlagSet("ping", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	count := f.Int("c", 0, "")
	interval := f.Float64("i", 1, "")
	wait := f.Float64("W", 2, "")
	v4, v6 := f.Bool("4", false, ""), f.Bool("6", false, "")
	if err := f.Parse(args); err != nil || f.NArg() != 1 || *interval < 0.01 || *wait <= 0 || (*v4 && *v6) {
		return pingUsage
	}
	network := "ip"
	if *v4 {
		network = "ip4"
	} else if *v6 {
		network = "ip6"
	}
	dst, err := net.ResolveIPAddr(network, f.Arg(0))
	if err != nil {
		return fmt.Errorf("looking up %s: %w", f.Arg(0), err)
	}
	p, err := newPinger(dst)
	if err != nil {
		return fmt.Errorf("opening an ICMP socket: %w", err)
	}
	defer p.conn.Close()
	stop := context.AfterFunc(ctx, func() { p.conn.Close() })
	defer stop()
	heard := 0
	for seq := 1; *count == 0 || seq <= *count; seq++ {
		began := time.Now()
		if err := p.send(seq); err != nil {
			fmt.Fprintf(s.err, "ping: %v\n", err)
		}
		until := began.Add(seconds(*interval))
		if seq == *count {
			until = began.Add(seconds(*wait))
		}
		// A group may answer many times; one host once.
		n := p.listen(s.out, until, seq == *count && !dst.IP.IsMulticast())
		heard += n
		if ctx.Err() != nil {
			break
		}
		if rest := time.Until(until); rest > 0 && seq != *count {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
			}
		}
	}
	if heard == 0 {
		return fmt.Errorf("no answer from %s", dst)
	}
	return nil
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// pinger is one ICMP socket.
type pinger struct {
	conn  *icmp.PacketConn
	dst   *net.IPAddr
	id    int
	proto int
	sent  map[int]time.Time
}

func newPinger(dst *net.IPAddr) (*pinger, error) {
	p := &pinger{dst: dst, id: int(rand.Uint32() & 0xffff), sent: map[int]time.Time{}}
	network, any := "ip4:icmp", "0.0.0.0"
	p.proto = 1
	if dst.IP.To4() == nil {
		network, any, p.proto = "ip6:ipv6-icmp", "::", 58
	}
	var err error
	p.conn, err = icmp.ListenPacket(network, any)
	return p, err
}

func (p *pinger) send(seq int) error {
	var kind icmp.Type = ipv4.ICMPTypeEcho
	if p.proto == 58 {
		kind = ipv6.ICMPTypeEchoRequest
	}
	m := icmp.Message{Type: kind, Body: &icmp.Echo{ID: p.id, Seq: seq & 0xffff, Data: make([]byte, 56)}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	p.sent[seq&0xffff] = time.Now()
	_, err = p.conn.WriteTo(b, p.dst)
	return err
}

// listen prints answers until then, or until the first, and returns their number.
func (p *pinger) listen(w io.Writer, until time.Time, first bool) int {
	n := 0
	buf := make([]byte, 1500)
	for {
		_ = p.conn.SetReadDeadline(until)
		size, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return n
		}
		m, err := icmp.ParseMessage(p.proto, buf[:size])
		if err != nil || (m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply) {
			continue
		}
		e, ok := m.Body.(*icmp.Echo)
		if !ok || e.ID != p.id || p.sent[e.Seq].IsZero() {
			continue
		}
		a, _ := netip.ParseAddr(from.String())
		fmt.Fprintf(w, "%d bytes from %s: seq=%d time=%.1f ms\n", size, a, e.Seq, float64(time.Since(p.sent[e.Seq]).Microseconds())/1000)
		if n++; first || !p.dst.IP.IsMulticast() {
			return n
		}
	}
}
