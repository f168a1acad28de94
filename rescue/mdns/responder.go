package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"rescue6/rescue/link"
)

const (
	port       = 5353
	linksEvery = 5 * time.Second
	probeEvery = 250 * time.Millisecond // RFC 6762 §8.1
	probes     = 3
	deference  = time.Second // §8.2

	announcements = 2 // a second apart (§8.3)
	// A flood of questions is not one of answers.
	answerRate  = 50 // a second
	answerBurst = 20
)

var group = net.ParseIP("ff02::fb")

// Responder answers for this machine.
type Responder struct {
	service Service
	log     *slog.Logger

	mu     sync.Mutex
	number int               // of the name, from 1
	links  map[int]link.Link // by index
	own    map[netip.Addr]bool
	state  state
	budget float64 // of answers
	last   time.Time
	doubts chan struct{} // has something when somebody else uses the name that this machine has
}

// state is how it stands with the name.
type state int

const (
	probing  state = iota // nobody has objected yet; nothing is answered (RFC 6762 §8.1)
	taken                 // somebody has it: the next is tried
	outvoted              // somebody else probes for it, too, and goes first (§8.2)
	claimed
)

// New returns a responder. It starts nothing.
func New(s Service, log *slog.Logger) *Responder {
	return &Responder{service: s, log: log, number: 1, links: map[int]link.Link{}, own: map[netip.Addr]bool{}, doubts: make(chan struct{}, 1)}
}

// Name returns the name that is answered for, without a domain.
func (r *Responder) Name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.label()
}

func (r *Responder) label() string {
	if r.number == 1 {
		return r.service.Hostname
	}
	return r.service.Hostname + "-" + strconv.Itoa(r.number)
}

// Run answers on all links that list returns, until ctx ends. Another responder may
// be on the same port.
func (r *Responder) Run(ctx context.Context, list func() ([]link.Link, error)) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		}); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(ctx, "udp6", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return fmt.Errorf("listening for mDNS: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	p := ipv6.NewPacketConn(c)
	if err := errors.Join(p.SetControlMessage(ipv6.FlagInterface, true), p.SetMulticastLoopback(false), p.SetMulticastHopLimit(255)); err != nil {
		return fmt.Errorf("listening for mDNS: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.maintain(ctx, p, list) })

	buf := make([]byte, 9000) // RFC 6762 §17
	for {
		n, cm, from, err := p.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listening for mDNS: %w", err)
		}
		if udp, ok := from.(*net.UDPAddr); ok && cm != nil {
			r.take(p, buf[:n], cm.IfIndex, udp)
		}
	}
}

// take answers a message, or learns from it that the name is another's.
func (r *Responder) take(p *ipv6.PacketConn, message []byte, index int, from *net.UDPAddr) {
	r.mu.Lock()
	z, ok := r.zone(index)
	if ok {
		r.judge(z, message)
	}
	quiet := r.state != claimed || !r.spend()
	r.mu.Unlock()
	if !ok || quiet {
		return
	}
	reply, alone, err := z.answer(message, from.Port != port)
	if err != nil {
		return
	}
	to := &net.UDPAddr{IP: group, Port: port}
	if alone {
		to = from
	}
	r.send(p, reply, index, to)
}

// spend says whether there may be another answer. The lock is held.
func (r *Responder) spend() bool {
	now := time.Now()
	r.budget = min(answerBurst, r.budget+now.Sub(r.last).Seconds()*answerRate)
	r.last = now
	if r.budget < 1 {
		return false
	}
	r.budget--
	return true
}

// judge looks whether somebody else uses the name. The lock is held.
func (r *Responder) judge(z zone, message []byte) {
	own := func(a netip.Addr) bool { return r.own[a] }
	switch {
	case z.conflicts(message, own) && r.state == claimed:
		select {
		case r.doubts <- struct{}{}:
		default:
		}
	case z.conflicts(message, own):
		r.state = taken
	case r.state == probing && z.outvoted(message, own):
		r.state = outvoted
	}
}

func (r *Responder) send(p *ipv6.PacketConn, message []byte, index int, to *net.UDPAddr) {
	to = &net.UDPAddr{IP: to.IP, Port: to.Port, Zone: strconv.Itoa(index)}
	if _, err := p.WriteTo(message, &ipv6.ControlMessage{IfIndex: index, HopLimit: 255}, to); err != nil {
		r.log.Debug("answering mDNS", "err", err)
	}
}

// zone returns what is true on a link. The lock is held.
func (r *Responder) zone(index int) (zone, bool) {
	l, ok := r.links[index]
	if !ok {
		return zone{}, false
	}
	z := zone{Service: r.service, label: r.label()}
	for _, a := range l.IPv6 {
		if a.Usable() {
			z.addrs = append(z.addrs, a.Prefix.Addr())
		}
	}
	return z, true
}

// maintain joins the group on links that come, and claims the name whenever
// something is different.
func (r *Responder) maintain(ctx context.Context, p *ipv6.PacketConn, list func() ([]link.Link, error)) {
	tick := time.NewTicker(linksEvery)
	defer tick.Stop()
	before, doubt := "", false
	for {
		links, _ := list() // without links there is nobody to answer
		now := ""
		r.mu.Lock()
		clear(r.links)
		clear(r.own)
		for _, l := range links {
			now += fmt.Sprint(l.Index, l.IPv6)
			r.links[l.Index] = l
			for _, a := range slices.Concat(l.IPv6, l.IPv4) {
				r.own[a.Prefix.Addr()] = true
			}
		}
		r.mu.Unlock()
		if now != before || doubt {
			for _, l := range links {
				// Once is enough; twice is an error that says so.
				_ = p.JoinGroup(&net.Interface{Index: l.Index, Name: l.Name}, &net.UDPAddr{IP: group})
			}
			r.claim(ctx, p)
		}
		before, doubt = now, false
		select {
		case <-ctx.Done():
			return
		case <-r.doubts:
			doubt = true
		case <-tick.C:
		}
	}
}

// claim asks whether somebody has the name, takes the next as long as that is so,
// and tells all of it (RFC 6762 §8).
func (r *Responder) claim(ctx context.Context, p *ipv6.PacketConn) {
	for {
		r.mu.Lock()
		if r.state == taken {
			r.number++
			r.log.Info("another machine has this name", "now", r.label())
		}
		r.state = probing
		r.mu.Unlock()
		for range probes {
			r.each(func(z zone, index int) {
				if m, err := z.probe(); err == nil {
					r.send(p, m, index, &net.UDPAddr{IP: group, Port: port})
				}
			})
			if !wait(ctx, probeEvery) {
				return
			}
		}
		r.mu.Lock()
		if r.state == probing {
			r.state = claimed
		}
		now := r.state
		r.mu.Unlock()
		if now == claimed {
			break
		}
		if now == outvoted && !wait(ctx, deference) {
			return
		}
	}
	for i := range announcements {
		r.each(func(z zone, index int) {
			if m, err := z.announcement(); err == nil {
				r.send(p, m, index, &net.UDPAddr{IP: group, Port: port})
			}
		})
		if i+1 < announcements && !wait(ctx, time.Second) {
			return
		}
	}
}

// wait says whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// each calls fn for each link.
func (r *Responder) each(fn func(z zone, index int)) {
	r.mu.Lock()
	zones := map[int]zone{}
	for i := range r.links {
		zones[i], _ = r.zone(i)
	}
	r.mu.Unlock()
	for i, z := range zones {
		fn(z, i)
	}
}
