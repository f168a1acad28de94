package scan

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/ipv6"

	"rescue6/rescue/link"
)

// The pace of a Monitor.
const (
	scanEvery  = 10 * time.Minute
	linksEvery = 5 * time.Second
	// maxPeers bounds how many addresses are kept.
	maxPeers = 10_000
	// verifyRate is how many announcements a second are verified: that is what costs.
	verifyRate = 200
)

// Monitor knows the neighbours of this machine: it listens all the time, and scans at
// the start, when a link changes, and every ten minutes. It is in the group of
// rescue6, so that others find this machine at once.
type Monitor struct {
	log *slog.Logger

	mu      sync.Mutex
	table   *table
	earlier map[string]Record // who was known before this process, by link and MAC
	second  time.Time
	tokens  int // left in this second
}

// NewMonitor returns a monitor. It starts nothing.
func NewMonitor(log *slog.Logger) *Monitor {
	t := newTable()
	t.max, t.evict = maxPeers, true
	return &Monitor{log: log, table: t, earlier: make(map[string]Record)}
}

// Run listens and scans until ctx ends. No error ends it.
func (m *Monitor) Run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		links, err := Links(nil)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			m.log.Info("no neighbours to look for", "why", text)
		}
		said = text
		if err == nil {
			m.session(ctx, links)
		}
		select {
		case <-ctx.Done():
		case <-time.After(linksEvery):
		}
	}
}

// session listens and scans as long as the links are those.
func (m *Monitor) session(ctx context.Context, links []link.Link) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := newNonce()
	wires, err := openWires(n, links)
	if err != nil {
		m.log.Warn("listening to neighbours", "err", err)
		return
	}
	m.mu.Lock()
	clear(m.table.own)
	m.table.learnLinks(links)
	m.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, w := range wires {
		wg.Go(func() { w.receive(m.hear) })
		defer w.Close()
	}
	if leave, err := join(links); err == nil {
		defer leave()
	} else {
		m.log.Warn("joining the group of rescue6", "err", err)
	}
	wg.Go(func() { m.scanAgain(ctx, links) })
	before := signature(links)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(linksEvery):
		}
		if now, err := Links(nil); err != nil || signature(now) != before {
			cancel()
			return
		}
	}
}

// signature is different for links that have to be asked anew.
func signature(links []link.Link) string {
	var s strings.Builder
	for _, l := range links {
		fmt.Fprint(&s, l.Index, l.Name, l.MAC, sources(l), ";")
	}
	return s.String()
}

// scanAgain scans now and then.
func (m *Monitor) scanAgain(ctx context.Context, links []link.Link) {
	for ctx.Err() == nil {
		s, err := run(ctx, Config{Links: links, Shy: true})
		if err != nil && ctx.Err() == nil {
			m.log.Warn("looking for neighbours", "err", err)
		}
		if s != nil {
			m.mu.Lock()
			m.table.fold(s.table)
			m.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(scanEvery):
		}
	}
}

// hear takes in what a neighbour said unasked.
func (m *Monitor) hear(a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table.own[a.place.addr] || m.table.names[a.index] == "" {
		return
	}
	if a.announced != nil {
		if a.at.Sub(m.second) > time.Second {
			m.second, m.tokens = a.at, verifyRate
		}
		if m.tokens--; m.tokens < 0 {
			return
		}
	}
	m.table.note(a, 0)
}

// join makes this machine a member of the group of rescue6 on links: the kernel then
// answers echoes to it.
func join(links []link.Link) (leave func(), err error) {
	c, err := net.ListenPacket("udp6", "[::]:0")
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(c)
	for _, l := range links {
		if err := p.JoinGroup(&net.Interface{Index: l.Index, Name: l.Name}, &net.UDPAddr{IP: group.AsSlice()}); err != nil {
			c.Close()
			return nil, err
		}
	}
	return func() { c.Close() }, nil
}

// Records returns all neighbours, those that were seen last first, this machine
// left out.
func (m *Monitor) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Record
	seen := map[string]bool{}
	for _, h := range m.table.hosts(nil) {
		if h.Self {
			continue
		}
		r := h.Record()
		id := r.Interface + " " + r.MAC
		seen[id] = true
		if e, ok := m.earlier[id]; ok && e.FirstSeen.Before(r.FirstSeen) {
			r.FirstSeen = e.FirstSeen
		}
		all = append(all, r)
	}
	for id, r := range m.earlier {
		if !seen[id] {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b Record) int { return b.LastSeen.Compare(a.LastSeen) })
	return all[:min(len(all), maxPeers)]
}

// Load takes in what Save has written. Lines that cannot be read are left out.
func (m *Monitor) Load(r io.Reader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for lines := bufio.NewScanner(r); lines.Scan() && len(m.earlier) < maxPeers; {
		var rec Record
		if json.Unmarshal(lines.Bytes(), &rec) == nil && len(rec.Addresses) > 0 {
			m.earlier[rec.Interface+" "+rec.MAC] = rec
		}
	}
}

// Save writes what is known, one JSON object per line.
func (m *Monitor) Save(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, r := range m.Records() {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
