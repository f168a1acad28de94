// Package scan finds who is on a link by IPv6, knowing nothing of it: every node
// answers an echo to ff02::1. Who answers is asked for its SSH banner and host
// key, which tell whose it is.
//
//	sources                     sightings                     hosts
//	echo to ff02::1, twice ──┐
//	label addresses of own ──┼─► address on a link ─► SSH ─► merged by MAC and key
//	instances, by SSH        ┘
//
// Nothing is kept between scans, and nothing is sent but echoes, neighbour
// solicitations, and one SSH key exchange per address.
package scan

import (
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"rescue6/rescue/identity"
	"rescue6/rescue/link"
)

// Config says where to look, and for whom.
type Config struct {
	Links     []link.Link   // usable ones, from [Links]
	Instances []Instance    // own ones: recognised, and asked for even if no echo is answered
	Timeout   time.Duration // of waiting for answers to echoes; 0 means 3 s
}

// Instance is one whose host key is pinned.
type Instance struct {
	Name string
	Key  ed25519.PublicKey
}

const (
	defaultTimeout = 3 * time.Second
	// maxSightings bounds the memory that a link full of forged answers can cost.
	maxSightings = 20_000
	// maxAsked is how many are asked for SSH at a time: well below the usual limit
	// of 1024 open files.
	maxAsked = 256
)

// Via names the source of a sighting.
type Via string

// The sources.
const (
	ViaEcho  Via = "echo"  // it answered an echo to all nodes
	ViaLabel Via = "label" // it answered at the label address of an own instance
)

// place is an address on a link. The same link-local address on two links may be
// two hosts.
type place struct {
	index int        // of the link
	addr  netip.Addr // without a zone
}

// sighting is what is known of one place.
type sighting struct {
	place
	rtt  time.Duration // the shortest; 0 if it is not known
	via  []Via
	self bool
	ssh  *SSH
}

// Run looks for hosts until it has been quiet for 300 ms after the second round of
// echoes, and everyone who answered has been asked for SSH. The hosts are sorted:
// own instances first, this machine last.
//
// If ctx ends, Run returns what is known until then, with the error of ctx.
// Without the right to send an echo, the error is [ErrNotPermitted].
func Run(ctx context.Context, c Config) ([]Host, error) {
	echoes, err := openEcho()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &scanner{
		Config: c,
		ctx:    ctx,
		echoes: echoes,
		seen:   make(map[place]*sighting),
		names:  make(map[int]string),
		asked:  make(chan asked),
		slots:  make(chan struct{}, maxAsked),
	}
	for _, l := range c.Links {
		s.names[l.Index] = l.Name
	}
	// A partial list only means that this machine may not know itself everywhere.
	all, _ := link.List()
	macs := make(map[place]net.HardwareAddr)
	own := make(map[netip.Addr]bool)
	for _, l := range all {
		for _, a := range l.IPv6 {
			own[a.Prefix.Addr()] = true
			macs[place{l.Index, a.Prefix.Addr()}] = l.MAC
		}
	}
	s.self = func(a netip.Addr) bool { return own[a] }

	err = s.run()
	cancel()
	for s.pending > 0 {
		s.takeSSH(<-s.asked)
	}
	if err != nil && len(s.seen) == 0 {
		return nil, err
	}

	// A neighbour's MAC is known once it has been spoken to: now. Without the
	// table, hosts are merged by key only.
	neighbours, _ := link.Neighbours()
	for _, n := range neighbours {
		macs[place{n.Index, n.Addr}] = n.MAC
	}
	hosts := merge(slices.Collect(maps.Values(s.seen)), macs, c.Instances, s.names)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return hosts, err
	}
	return hosts, nil
}

// scanner is one scan. All fields but the channels belong to the goroutine of run.
type scanner struct {
	Config
	ctx    context.Context
	echoes *echoSocket
	names  map[int]string // of links, by index
	self   func(netip.Addr) bool

	seen    map[place]*sighting
	pending int // who has been asked and has not answered
	asked   chan asked
	slots   chan struct{}
}

// asked is the outcome of asking for SSH.
type asked struct {
	place
	via  Via
	ssh  *SSH // nil if there is none
	here bool // somebody was there, if only to refuse
}

// run sends, receives and asks until all is done. It returns an error if nothing
// could be sent anywhere, or ctx has ended.
func (s *scanner) run() error {
	replies := make(chan reply, 512)
	go s.echoes.receive(replies)
	defer func() {
		s.echoes.Close()
		for range replies { // until the receiver has ended
		}
	}()

	for _, l := range s.Links {
		for _, i := range s.Instances {
			if a := identity.LabelAddress(i.Key); !s.self(a) {
				s.ask(place{l.Index, a}, ViaLabel)
			}
		}
	}
	p := pace{start: time.Now(), timeout: s.Timeout}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sendErr error
	listening := true
	for listening || s.pending > 0 {
		select {
		case r := <-replies:
			if s.takeReply(r) {
				p.news = r.at
			}
		case a := <-s.asked:
			s.takeSSH(a)
		case now := <-timer.C:
			at, end := p.next()
			switch {
			case now.Before(at):
			case end:
				listening = false
				continue // the timer stays silent from now on
			default:
				sendErr = s.echoes.send(p.sent, s.Links)
				p.sent++
				at, _ = p.next()
			}
			timer.Reset(time.Until(at))
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	return sendErr
}

// takeReply notes an answer and asks who it is, if that is news.
func (s *scanner) takeReply(r reply) (news bool) {
	if s.names[r.index] == "" || len(s.seen) >= maxSightings {
		return false
	}
	known, ok := s.seen[r.place]
	if !ok {
		known = &sighting{place: r.place, self: s.self(r.addr)}
		s.seen[r.place] = known
		if !known.self {
			s.ask(r.place, ViaEcho)
		}
	}
	known.note(ViaEcho, r.rtt)
	return !ok
}

// takeSSH notes what asking has brought.
func (s *scanner) takeSSH(a asked) {
	s.pending--
	known, ok := s.seen[a.place]
	if !ok {
		if !a.here || len(s.seen) >= maxSightings {
			return
		}
		known = &sighting{place: a.place}
		s.seen[a.place] = known
	}
	if a.via == ViaLabel && a.here {
		known.note(ViaLabel, 0)
	}
	if a.ssh != nil {
		known.ssh = a.ssh
	}
}

func (k *sighting) note(v Via, rtt time.Duration) {
	if !slices.Contains(k.via, v) {
		k.via = append(k.via, v)
	}
	if rtt > 0 && (k.rtt == 0 || rtt < k.rtt) {
		k.rtt = rtt
	}
}

// ask asks for SSH in the background. The outcome comes through s.asked, always.
func (s *scanner) ask(p place, via Via) {
	s.pending++
	addr := p.addr.WithZone(s.names[p.index])
	go func() {
		a := asked{place: p, via: via}
		defer func() { s.asked <- a }()
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-s.ctx.Done():
			return
		}
		server, err := Ask(s.ctx, addr)
		a.here = err == nil || errors.Is(err, syscall.ECONNREFUSED)
		a.ssh = server
	}()
}
