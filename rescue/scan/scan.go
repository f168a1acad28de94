// Package scan finds who is on a link by IPv6, knowing nothing of it, in one round
// trip.
//
//	sources                        sightings                     hosts
//	echo to ff02::1, per prefix ──┐
//	echo to ff02::114             │
//	unknown options to ff02::1  ──┼─► address on a link ─► SSH ─► merged by MAC
//	mDNS, Neighbor Discovery      │                               and key
//	label addresses of own        │
//	instances, by SSH           ──┘
//
// A host answers an echo from the address whose scope matches that of the question,
// so each prefix of the link is asked for. Who ignores echoes to a group still
// objects to an option that it does not know. Nothing is sent twice that was not
// lost, and never more than 30 multicast frames per link.
package scan

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"rescue6/rescue/identity"
	"rescue6/rescue/link"
)

// Config says where to look, and for whom.
type Config struct {
	Links     []link.Link   // usable ones, from [Links]
	Instances []Instance    // own ones: recognised, and asked for even if no echo is answered
	Timeout   time.Duration // of waiting for answers; 0 means 3 s
	Names     bool          // ask for the name of each address, too
	Ping      bool          // ask each address by itself, too
	IPv4      bool          // look for IPv4 addresses of the same MACs, too
	// Shy says that only those are asked for SSH who gave a sign of being an instance:
	// the logs of others stay clean.
	Shy bool
	// Found is called with each host as soon as it is seen first, with the one address
	// that was seen; it may be nil. It must not block.
	Found func(Host) `json:"-"`
}

// Instance is one whose host key is pinned.
type Instance struct {
	Name string
	Key  ed25519.PublicKey
}

// Result is what a scan has found.
type Result struct {
	Hosts []Host // own instances first, this machine last
	// Partial says that this process may not send all kinds of probes: who ignores
	// echoes was not seen.
	Partial bool
	// Unasked is how many hosts were not asked for SSH, since they are so many.
	Unasked int
	// Dropped is how many addresses were not kept, since they were so many: somebody
	// answers for all that there are.
	Dropped int
}

const (
	defaultTimeout = 3 * time.Second
	// maxSightings bounds the memory that a link full of forged answers can cost, at
	// about 1 kB each.
	maxSightings = 65_536
	// maxAsked is how many are asked for SSH at a time, well below the usual limit of
	// 1024 open files, and maxStrangers how many in all that have given no sign of
	// being an instance: the kernel's neighbour table has room for 1024.
	maxAsked     = 256
	maxStrangers = 1000
	// maxSources bounds from how many addresses a link is asked, and so what is sent:
	// three kinds of probe and two rounds from each.
	maxSources = 4
)

// Via names the source of a sighting.
type Via string

// The sources.
const (
	ViaEcho         Via = "echo"         // it answered an echo to all nodes (RFC 4443 §4.2)
	ViaGroup        Via = "rescue6"      // it answered an echo to the group of rescue6
	ViaHopByHop     Via = "hop-by-hop"   // it objected to an unknown Hop-by-Hop option (RFC 4443 §3.4)
	ViaDestination  Via = "destination"  // it objected to an unknown Destination option
	ViaUnicast      Via = "unicast"      // it answered an echo to itself
	ViaLabel        Via = "label"        // it answered at the label address of an own instance
	ViaMDNS         Via = "mdns"         // it spoke mDNS (RFC 6762)
	ViaNA           Via = "na"           // it was in a Neighbor Advertisement (RFC 4861 §4.4)
	ViaNS           Via = "ns"           // it sent a Neighbor Solicitation
	ViaRA           Via = "ra"           // it sent a Router Advertisement
	ViaMLD          Via = "mld"          // it sent an MLD report (RFC 3810)
	ViaAnnouncement Via = "announcement" // it announced itself as an instance
)

// kinds of probes, in their order.
var kinds = []Via{ViaEcho, ViaGroup, ViaHopByHop, ViaDestination}

// Run looks for hosts until it has been quiet for 300 ms after the second round of
// probes, and those who answered have been asked for SSH.
//
// If ctx ends, Run returns what is known until then, with the error of ctx.
// Without the right to send an echo, the error is [ErrNotPermitted].
func Run(ctx context.Context, c Config) (Result, error) {
	s, err := run(ctx, c)
	if s == nil {
		return Result{}, err
	}
	r := Result{Hosts: s.hosts(c.Instances), Partial: !s.wires[0].whole(), Unasked: s.unasked, Dropped: s.dropped}
	for i, h := range r.Hosts {
		if h.MAC != nil {
			r.Hosts[i].IPv4 = s.arp.addrs[arpID(s.index(h.Interface), h.MAC)]
		}
	}
	return r, err
}

// run scans. The scanner is nil if nothing is known, and there is an error if that
// is so, or ctx has ended.
func run(ctx context.Context, c Config) (*scanner, error) {
	n := newNonce()
	wires, err := openWires(n, c.Links)
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &scanner{
		Config: c, ctx: ctx, wires: wires, table: newTable(),
		sent:    make(map[probe]time.Time),
		arp:     arp{addrs: make(map[string][]netip.Addr)},
		answers: make(chan answer, 4096),
		asked:   make(chan asked),
		slots:   make(chan struct{}, maxAsked),
	}
	s.learnLinks(c.Links)
	var asking sync.WaitGroup
	if c.IPv4 {
		for _, l := range c.Links {
			asking.Go(func() { s.arp.ask(ctx, l) })
		}
	}
	s.mdns, _ = openMDNS() // without it there are no names

	err = s.run()
	cancel()
	asking.Wait()
	for s.pending > 0 {
		s.takeSSH(<-s.asked)
	}
	if err != nil && s.empty() {
		return nil, err
	}
	// A neighbour's MAC is known once it has been spoken to: now. Without the
	// table, hosts are merged by key only.
	neighbours, _ := link.Neighbours()
	for _, n := range neighbours {
		if k, ok := s.seen[place{n.Index, n.Addr}]; ok && k.mac == nil {
			k.mac = n.MAC
		}
	}
	if c.IPv4 {
		s.arp.table()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return s, err
	}
	return s, nil
}

// scanner is one scan. All fields but the channels belong to the goroutine of run.
type scanner struct {
	Config
	*table
	ctx   context.Context
	wires []wire
	mdns  *mdnsSocket
	sent  map[probe]time.Time
	arp   arp

	queue     []probe // that are to be sent, for each link
	held      []asked // who is to be asked for SSH
	pinged    bool
	pending   int // who has been asked and has not answered
	strangers int // who have been asked
	unasked   int
	shown     map[string]bool // to Found, by link and MAC
	answers   chan answer
	asked     chan asked
	slots     chan struct{}
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
	stop := s.receive()
	defer stop()
	s.shown = make(map[string]bool)
	for _, l := range s.Links {
		for _, i := range s.Instances {
			if a := identity.LabelAddress(i.Key); !s.own[a] {
				s.ask(place{l.Index, a}, ViaLabel)
			}
		}
	}
	p := pace{start: time.Now(), timeout: s.Timeout}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sendErr error
	listening := true
	for listening || s.pending > 0 {
		select {
		case a := <-s.answers:
			p.heard = a.at
			if s.takeAnswer(a) {
				p.news = a.at
			}
		case a := <-s.asked:
			s.takeSSH(a)
		case now := <-timer.C:
			at, end := p.next()
			if len(s.queue) == 0 {
				s.askHeld()
			}
			switch {
			case len(s.queue) > 0:
				at = now.Add(probePause / 2)
				if p.mayProbe(now) {
					sendErr = s.sendNext()
					p.probed = now
				}
			case now.Before(at):
			case end && s.Ping && !s.pinged:
				s.pingAll()
				at = now.Add(pingTime)
			case end:
				listening = false
				s.askHeld()
				s.askRest()
				continue // the timer stays silent from now on
			default:
				s.queueRound(p.sent)
				p.sent++
				at = now
			}
			timer.Reset(time.Until(at))
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	return sendErr
}

// receive starts receiving. What it returns ends that.
func (s *scanner) receive() (stop func()) {
	done := make(chan struct{})
	hand := func(a answer) {
		select {
		case s.answers <- a:
		case <-done:
		}
	}
	ended := make(chan struct{})
	receivers := 0
	start := func(receive func(func(answer))) {
		receivers++
		go func() {
			receive(hand)
			ended <- struct{}{}
		}()
	}
	for _, w := range s.wires {
		start(w.receive)
	}
	if s.mdns != nil {
		start(s.mdns.receive)
	}
	return func() {
		close(done)
		for _, w := range s.wires {
			w.Close()
		}
		if s.mdns != nil {
			s.mdns.conn.Close()
		}
		for range receivers {
			<-ended
		}
	}
}

// queueRound prepares the probes of a round: one after the other on a link, on all
// links at a time. Echoes come first: who has answered one is known.
func (s *scanner) queueRound(round int) {
	for _, kind := range kinds {
		if kind == ViaDestination && round > 0 {
			continue // who objects to one objects to a Hop-by-Hop option, too, but for a few
		}
		for i := range maxSources {
			if kind == ViaGroup && i > 0 {
				continue // instances have a link-local address
			}
			s.queue = append(s.queue, probe{via: kind, round: round, source: i})
		}
	}
	if s.mdns != nil {
		for _, l := range s.Links {
			_ = s.mdns.ask(browse(), l) // names are a luxury
		}
	}
	if round > 0 {
		s.sendToNeighbours(round)
		s.askNames()
	}
}

// sendNext sends the next probe that a link has a source for, on all links. A link
// that fails now may work in the next round: only if all fail, that is an error.
func (s *scanner) sendNext() error {
	for len(s.queue) > 0 {
		p := s.queue[0]
		s.queue = s.queue[1:]
		var errs []error
		sent := 0
		for _, l := range s.Links {
			from := sources(l)
			if p.source >= len(from) {
				continue
			}
			p.index = l.Index
			sent++
			if err := s.send(p, l, from[p.source], destination(p.via), nil); err != nil {
				errs = append(errs, err)
			}
		}
		switch {
		case sent == 0:
			continue
		case len(errs) == sent:
			return errors.Join(errs...)
		}
		return nil
	}
	return nil
}

func (s *scanner) send(p probe, l link.Link, from, to netip.Addr, mac net.HardwareAddr) error {
	s.sent[p] = time.Now()
	var errs []error
	for _, w := range s.wires {
		if err := w.send(p, l, from, to, mac); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// maxUnicast is how many neighbours are asked one by one.
const maxUnicast = 256

// sendToNeighbours asks those that the kernel knows and nobody else has told of.
func (s *scanner) sendToNeighbours(round int) {
	neighbours, _ := link.Neighbours()
	left := maxUnicast
	for _, n := range neighbours {
		i := slices.IndexFunc(s.Links, func(l link.Link) bool { return l.Index == n.Index })
		if i < 0 || !n.Addr.Is6() || n.Addr.IsMulticast() || s.seen[place{n.Index, n.Addr}] != nil || left == 0 {
			continue
		}
		left--
		from := sources(s.Links[i])[0]
		_ = s.send(probe{ViaUnicast, round, n.Index, 0}, s.Links[i], from, n.Addr, n.MAC)
	}
}

// pingTime is how long those who are asked one by one have for an answer.
const pingTime = time.Second

// pingAll asks each address that was seen.
func (s *scanner) pingAll() {
	s.pinged = true
	for _, l := range s.Links {
		from := sources(l)
		for p, k := range s.seen {
			if p.index != l.Index || k.self || k.mac == nil && s.wires[0].whole() {
				continue
			}
			// From an address of the same scope, so that the answer finds its way.
			i := slices.IndexFunc(from, func(a netip.Addr) bool { return a.IsLinkLocalUnicast() == p.addr.IsLinkLocalUnicast() })
			if i >= 0 {
				_ = s.send(probe{ViaUnicast, 0, l.Index, i}, l, from[i], p.addr, k.mac)
			}
		}
	}
}

// index returns the index of one of the links.
func (s *scanner) index(name string) int {
	for i, n := range s.names {
		if n == name {
			return i
		}
	}
	return 0
}

// askNames asks for the names of what was seen, if that is wanted.
func (s *scanner) askNames() {
	if !s.Names || s.mdns == nil {
		return
	}
	for _, l := range s.Links {
		var addrs []netip.Addr
		for p := range s.seen {
			if p.index == l.Index && !s.own[p.addr] {
				addrs = append(addrs, p.addr)
			}
		}
		for _, m := range reverse(addrs) {
			_ = s.mdns.ask(m, l)
		}
	}
}

// sources returns the addresses of this machine from which a link is asked: a
// link-local one, and one of each other prefix.
func sources(l link.Link) []netip.Addr {
	var all []netip.Addr
	var prefixes []netip.Prefix
	for _, a := range slices.Concat(l.LinkLocal(), l.IPv6) {
		p := a.Prefix.Masked()
		if !a.Usable() || slices.Contains(prefixes, p) || p.Bits() > 120 || len(all) == maxSources {
			continue
		}
		all, prefixes = append(all, a.Prefix.Addr()), append(prefixes, p)
	}
	return all
}

// takeAnswer notes what was heard and asks who it is, if that is news.
func (s *scanner) takeAnswer(a answer) (news bool) {
	if s.names[a.index] == "" || s.own[a.place.addr] {
		return false
	}
	rtt := time.Duration(0)
	if a.probe.via != "" {
		sent, ok := s.sent[a.probe]
		if !ok {
			return false // a round that was never sent
		}
		rtt = a.at.Sub(sent)
	}
	k, news := s.note(a, rtt)
	if k == nil {
		return false
	}
	sign := a.via == ViaGroup || a.via == ViaAnnouncement
	if k.addr.IsLinkLocalUnicast() && !k.asked && (sign || news && !s.Shy) {
		k.asked = true
		s.held = append(s.held, asked{place: a.place, via: a.via})
	}
	if news {
		s.show(k)
	}
	return news
}

// askHeld asks those who have been held back as long as probes go out: hundreds of
// connections would be in their way.
func (s *scanner) askHeld() {
	for _, a := range s.held {
		s.ask(a.place, a.via)
	}
	s.held = nil
}

// show tells of a host that was not told of.
func (s *scanner) show(k *sighting) {
	if s.Found == nil {
		return
	}
	id := s.names[k.index] + " " + k.mac.String()
	if k.mac == nil {
		id += k.addr.String()
	}
	if !s.shown[id] {
		s.shown[id] = true
		s.Found(s.host(k))
	}
}

// askRest asks hosts that have shown no link-local address at another.
func (s *scanner) askRest() {
	if s.Shy {
		return
	}
	local := map[string]bool{}
	for p, k := range s.seen {
		if p.addr.IsLinkLocalUnicast() && k.mac != nil {
			local[s.names[p.index]+k.mac.String()] = true
		}
	}
	for p, k := range s.seen {
		id := s.names[p.index] + k.mac.String()
		if !k.self && !p.addr.IsLinkLocalUnicast() && k.mac != nil && !local[id] {
			local[id] = true
			s.ask(p, k.via[0])
		}
	}
}

// takeSSH notes what asking has brought.
func (s *scanner) takeSSH(a asked) {
	s.pending--
	k, ok := s.seen[a.place]
	if !ok {
		if !a.here {
			return
		}
		if k, _ = s.note(answer{place: a.place, heard: heard{via: a.via}, at: time.Now()}, 0); k == nil {
			return
		}
		s.show(k)
	} else if a.here && a.via == ViaLabel {
		k.saw(ViaLabel)
	}
	if a.ssh != nil {
		k.ssh = a.ssh
	}
}

// ask asks for SSH in the background. The outcome comes through s.asked, always.
func (s *scanner) ask(p place, via Via) {
	if via != ViaLabel && via != ViaGroup && via != ViaAnnouncement {
		if s.strangers >= maxStrangers {
			s.unasked++
			return
		}
		s.strangers++
	}
	s.pending++
	addr := p.addr
	if addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(s.names[p.index])
	}
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
