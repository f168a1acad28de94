//go:build linux

package announce

import (
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"rescue6/rescue/link"
)

// Config is what an [Announcer] says, apart from what depends on the link.
type Config struct {
	// Hostname is announced up to its first dot; one that is no hostname
	// (RFC 1123 §2.1) is not announced, since nothing may keep the rest from
	// being heard.
	Hostname string

	// Port is where SSH listens.
	Port uint16

	// Key is the SSH host key.
	Key ed25519.PrivateKey

	// Log gets a line when a link begins or ceases to fail.
	Log *slog.Logger
}

// An Announcer announces the link-local addresses of the links that Update names:
// three times after each change, then about once a minute. It needs no usable
// address to send, touches no file, and never gives up.
type Announcer struct {
	hostname string
	port     uint16
	key      ed25519.PrivateKey
	log      *slog.Logger
	bootID   [16]byte

	// What a test replaces: how to write frames to a link.
	open func(index int) (io.WriteCloser, error)

	// wake has room for one: Run reads the whole of what Update left.
	wake chan struct{}

	mu       sync.Mutex
	targets  []target
	ipv4Dead bool
	sent     uint64
	failed   uint64
	last     time.Time
}

// New returns an Announcer with a new boot ID. It starts nothing. With a key that
// is no Ed25519 private key every announcement counts as failed.
func New(c Config) *Announcer {
	hostname, _, _ := strings.Cut(c.Hostname, ".")
	if !validLabel(hostname) {
		hostname = ""
	}
	a := &Announcer{
		hostname: hostname,
		port:     c.Port,
		key:      c.Key,
		log:      c.Log,
		open:     openLink,
		wake:     make(chan struct{}, 1),
	}
	crand.Read(a.bootID[:]) // never returns an error (Go 1.24)
	return a
}

// BootID returns the boot ID in the announcements.
func (a *Announcer) BootID() [16]byte { return a.bootID }

// Update replaces the links to announce and what is said of IPv4. Links without
// carrier, or whose MAC address is not one of six bytes, and addresses that are
// not usable, are left out. It never blocks and may be called at any time, also
// with what it was told before: that changes nothing.
func (a *Announcer) Update(links []link.Link, ipv4Dead bool) {
	var targets []target
	for _, l := range links {
		if !l.Up || !l.Carrier || len(l.MAC) != 6 {
			continue
		}
		for _, addr := range l.LinkLocal() {
			if addr.Usable() {
				targets = append(targets, target{l.Index, addr.Prefix.Addr(), [6]byte(l.MAC), l.Forwarding})
			}
		}
	}

	a.mu.Lock()
	a.targets, a.ipv4Dead = targets, ipv4Dead
	a.mu.Unlock()

	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Stats returns how many announcements went out and how many did not, and when
// the last one did; last is zero if none has.
func (a *Announcer) Stats() (sent, failed uint64, last time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent, a.failed, a.last
}

// Run announces until ctx ends; then it returns nil. All its work, the opening
// of sockets included, is done by the calling goroutine.
func (a *Announcer) Run(ctx context.Context) error {
	var (
		plan     schedule
		sockets  = make(map[int]io.WriteCloser)
		sequence uint64
	)
	defer func() {
		for _, s := range sockets {
			s.Close()
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-timer.C:
		}

		a.mu.Lock()
		targets, ipv4Dead := a.targets, a.ipv4Dead
		a.mu.Unlock()

		now := time.Now()
		plan.update(now, targets, ipv4Dead)
		closeUnused(sockets, targets)

		jitter := rand.Float64()
		for _, e := range plan.due(now) {
			sequence++
			err := a.announce(sockets, e.target, ipv4Dead, sequence)
			a.count(now, err == nil)
			a.logChange(e, err)
			e.done(now, err == nil, jitter)
		}

		timer.Stop()
		if at, ok := plan.next(); ok {
			timer.Reset(time.Until(at))
		}
	}
}

// announce sends one announcement, over the link's socket in sockets or a new
// one. A socket that failed is closed: the link may have been re-created, and a
// packet socket knows only the old one then.
func (a *Announcer) announce(sockets map[int]io.WriteCloser, t target, ipv4Dead bool, sequence uint64) error {
	ann := Announcement{
		Hostname: a.hostname,
		Port:     a.port,
		BootID:   a.bootID,
		Sequence: sequence,
		MAC:      net.HardwareAddr(t.mac[:]),
		Target:   t.addr,
		IPv4Dead: ipv4Dead,
		Router:   t.router,
	}
	if err := ann.Sign(a.key); err != nil {
		return err
	}
	packet, err := ann.Marshal()
	if err != nil {
		return err
	}
	s, ok := sockets[t.index]
	if !ok {
		if s, err = a.open(t.index); err != nil {
			return err
		}
		sockets[t.index] = s
	}
	if _, err := s.Write(frame(t.mac, packet)); err != nil {
		s.Close()
		delete(sockets, t.index)
		return err
	}
	return nil
}

func (a *Announcer) count(now time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok {
		a.sent++
		a.last = now
	} else {
		a.failed++
	}
}

// logChange writes a line if the announcing of an entry begins to fail or works
// again. e is as it was before.
func (a *Announcer) logChange(e *entry, err error) {
	switch {
	case err != nil && e.failures == 0:
		a.log.Warn("announcing fails", "interface", e.index, "address", e.addr, "err", err)
	case err == nil && e.failures > 0:
		a.log.Info("announcing works again", "interface", e.index, "address", e.addr, "failures", e.failures)
	}
}

// closeUnused closes the sockets of links that have no target any more.
func closeUnused(sockets map[int]io.WriteCloser, targets []target) {
	used := make(map[int]bool, len(sockets))
	for _, t := range targets {
		used[t.index] = true
	}
	for index, s := range sockets {
		if !used[index] {
			s.Close()
			delete(sockets, index)
		}
	}
}
