package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sort"
	"sync"
	"syscall"
	"time"

	"rescue6/rescue/status"
)

// The times of a session process. The first two are backstops for the deadlines
// that the process keeps itself.
const (
	kexDeadline  = 15 * time.Second
	authDeadline = 130 * time.Second

	ackDeadline  = 3 * time.Second  // from handing over to the process having it
	warmDeadline = 30 * time.Second // from start to ready, on a busy Pi
	pingEvery    = 5 * time.Second
	pongDeadline = 2*pingEvery + time.Second
)

// Config is what a Server needs.
type Config struct {
	Socket *os.File // of Listen
	Port   int
	Scope  Scope
	// Start starts a session process in a session of its own (setsid), with pair
	// as descriptor 3 and stderr as its standard error.
	Start func(pair, stderr *os.File) (*exec.Cmd, error)
	// Source says who counts as one source of connections: a host may have as many
	// addresses as it likes. It may be nil: then each address is one.
	Source func(netip.Addr) string
	// Incident is told what was wrong and has been mended; it may be nil.
	Incident func(fault, repair string)
	Log      *slog.Logger
}

// Server accepts connections and gives each to a process of its own.
type Server struct {
	cfg   Config
	spare chan *process // unbuffered: whoever receives owns the spare

	reserve reserve

	mu       sync.Mutex
	current  *process // the spare, for the status
	sessions map[*session]struct{}
	heard    map[string]time.Time // by link: when another node connected last
	accepted uint64
	refused  uint64
	warm     uint64
	cold     uint64
}

// session is one connection.
type session struct {
	peer, local netip.AddrPort
	source      string // who counts as one
	since       time.Time
	proc        *process      // nil until it was handed over
	evicted     chan struct{} // closed when it has to make room
	evictOnce   sync.Once
}

// New returns a server. It starts nothing.
func New(cfg Config) *Server {
	if cfg.Incident == nil {
		cfg.Incident = func(string, string) {}
	}
	if cfg.Source == nil {
		cfg.Source = netip.Addr.String
	}
	return &Server{cfg: cfg, spare: make(chan *process), sessions: map[*session]struct{}{}, heard: map[string]time.Time{}}
}

// Run accepts connections until ctx ends. Sessions outlive it; the spare does not.
// It returns an error only if the socket is no listener.
func (s *Server) Run(ctx context.Context) error {
	fl, err := net.FileListener(s.cfg.Socket)
	if err != nil {
		return fmt.Errorf("taking over the listener: %w", err)
	}
	l, ok := fl.(*net.TCPListener)
	if !ok {
		fl.Close()
		return fmt.Errorf("taking over the listener: it is a %T", fl)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	wg.Go(func() { s.keepSpare(ctx) })
	s.acceptAll(ctx, l, &wg)
	return nil
}

// acceptAll accepts until ctx ends. No error ends it and none makes it spin.
func (s *Server) acceptAll(ctx context.Context, l *net.TCPListener, wg *sync.WaitGroup) {
	var pause backoff
	defer func() { s.reserve.free(syscall.EMFILE) }()
	for ctx.Err() == nil {
		s.reserve.fill(s.cfg.Socket)
		conn, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() == nil {
				s.cfg.Log.Warn("accepting a connection", "err", err)
				s.relieve(err)
				pause.sleep(ctx)
			}
			continue
		}
		pause.reset()
		ses := &session{peer: addrPort(conn.RemoteAddr()), local: addrPort(conn.LocalAddr()),
			since: time.Now(), evicted: make(chan struct{})}
		ses.source = s.cfg.Source(ses.peer.Addr())
		if !s.admit(ses) {
			conn.Close()
			continue
		}
		// The next connection waits in the kernel's queue until this one has a
		// process: that queue is bounded and costs us nothing.
		select {
		case p := <-s.spare:
			wg.Go(func() { s.serve(ctx, ses, p, conn) })
		case <-ctx.Done():
			conn.Close()
			s.forget(ses)
		}
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// admit takes ses in, or says that it is refused. Somebody else may have to go.
func (s *Server) admit(ses *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	s.hear(ses)
	var waiting []*session
	for o := range s.sessions {
		if !o.isOpen() {
			waiting = append(waiting, o)
		}
	}
	if len(s.sessions) >= maxSessions && len(waiting) == 0 {
		s.refused++
		return false
	}
	if len(waiting) >= maxUnauthenticated || len(s.sessions) >= maxSessions {
		sort.Slice(waiting, func(i, j int) bool { return waiting[i].since.Before(waiting[j].since) })
		claims := make([]claimant, len(waiting))
		for i, o := range waiting {
			claims[i] = claimant{o.source, time.Since(o.since)}
		}
		s.refused++
		i := victim(claims, ses.source)
		if i < 0 {
			return false
		}
		waiting[i].evict()
	}
	s.sessions[ses] = struct{}{}
	return true
}

// maxHeard bounds how many links are remembered: they may come and go under ever
// new names.
const maxHeard = 64

// hear notes that another node has reached this one. The server's lock is held.
func (s *Server) hear(ses *session) {
	peer := ses.peer.Addr()
	if peer.Zone() == "" || peer == ses.local.Addr() {
		return
	}
	if len(s.heard) >= maxHeard {
		clear(s.heard)
	}
	s.heard[peer.Zone()] = time.Now()
}

// Heard returns how long ago another node connected last through each link, by its
// name. It is the only evidence that link, switch and rules by interface let
// connections in: those of this machine to itself go through the loopback.
func (s *Server) Heard() map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]time.Duration, len(s.heard))
	for link, at := range s.heard {
		all[link] = time.Since(at)
	}
	return all
}

// relieve does something about an error that says that no descriptors are left.
func (s *Server) relieve(err error) {
	switch {
	case s.reserve.free(err):
		s.cfg.Incident("no file descriptors are left", "the reserve was used")
	case exhausted(err):
		s.makeRoom()
	}
}

// makeRoom ends the oldest connection that nobody has logged in to.
func (s *Server) makeRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest *session
	for o := range s.sessions {
		if !o.isOpen() && (oldest == nil || o.since.Before(oldest.since)) {
			oldest = o
		}
	}
	if oldest != nil {
		s.refused++
		oldest.evict()
	}
}

func (s *Server) forget(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ses)
}

func (ses *session) evict() { ses.evictOnce.Do(func() { close(ses.evicted) }) }

// isOpen says whether the peer has logged in. The server's lock is held.
func (ses *session) isOpen() bool {
	if ses.proc == nil {
		return false
	}
	select {
	case <-ses.proc.open:
		return true
	default:
		return false
	}
}

// serve sees one connection through: hand it over, watch its deadlines, wait for
// the end of its process.
func (s *Server) serve(ctx context.Context, ses *session, p *process, conn *net.TCPConn) {
	defer s.forget(ses)
	p = s.handOver(ctx, ses, p, conn)
	conn.Close()
	if p == nil {
		return
	}
	deadline := time.NewTimer(kexDeadline)
	defer deadline.Stop()
	open := p.open
	inAuth := false
	for {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case <-ses.evicted:
			p.kill()
			<-p.done
			return
		case <-open:
			open = nil
			deadline.Stop()
		case <-deadline.C:
			p.mu.Lock()
			auth := p.state == StateAuth
			p.mu.Unlock()
			if auth && !inAuth {
				inAuth = true
				deadline.Reset(authDeadline - kexDeadline)
				continue
			}
			p.kill()
		}
	}
}

// handOver gives conn to p, and to the next spare if p does not take it: the peer
// has waited for seconds at most and notices nothing. It returns the process that
// has it, or nil.
func (s *Server) handOver(ctx context.Context, ses *session, p *process, conn *net.TCPConn) *process {
	for range 3 {
		s.count(p, ses)
		err := send(p.pair, message{Connection: true}, conn)
		if err == nil {
			wait := ackDeadline
			if !p.isReady() {
				wait = warmDeadline
			}
			select {
			case <-p.acked:
				return p
			case <-p.done:
				err = errors.New("it ended")
			case <-time.After(wait):
				err = errors.New("it does not answer")
			case <-ses.evicted:
				p.kill()
				return nil
			case <-ctx.Done():
				return nil
			}
		}
		p.log.Warn("session process did not take its connection", "err", err)
		if !p.killed.Load() && !p.hasEnded() {
			s.cfg.Incident("a session process did not answer", "killed; another has the connection")
		}
		p.kill()
		select {
		case p = <-s.spare:
		case <-ctx.Done():
			return nil
		}
	}
	p.kill()
	return nil
}

// count notes which process a connection went to and whether it was warm.
func (s *Server) count(p *process, ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.proc = p
	if p.isReady() {
		s.warm++
	} else {
		s.cold++
	}
}

// keepSpare sees to it that there is always a spare, warm or becoming so.
func (s *Server) keepSpare(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		p, err := startProcess(s.cfg)
		if err != nil {
			s.cfg.Log.Warn("starting a session process", "err", err)
			s.relieve(err)
			pause.sleep(ctx)
			continue
		}
		s.setCurrent(p)
		taken, ok := s.offer(ctx, p)
		s.setCurrent(nil)
		switch {
		case taken:
			pause.reset()
		case ok:
			pause.sleep(ctx) // it died or hung: not at once again
		}
	}
}

// offer holds p out until it is taken. It returns ok if another spare is needed.
func (s *Server) offer(ctx context.Context, p *process) (taken, ok bool) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		select {
		case s.spare <- p:
			return true, true
		case <-p.done:
			return false, true
		case <-ctx.Done():
			p.pair.Close()
			return false, false
		case <-tick.C:
			limit := pongDeadline
			if !p.isReady() {
				limit = warmDeadline
			}
			if age := p.ping(n); age > limit {
				p.log.Warn("the spare does not answer", "for", age.Round(time.Second))
				s.cfg.Incident("a session process did not answer", "killed; another was started")
				p.kill()
				<-p.done
				return false, true
			}
		}
	}
}

func (s *Server) setCurrent(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = p
}

// Status returns the state of the listener, the spare and all sessions.
func (s *Server) Status() (status.Listener, status.Spare, []status.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := status.Listener{Port: s.cfg.Port, Scope: string(s.cfg.Scope), Accepted: s.accepted, Refused: s.refused}
	sp := status.Spare{WarmHits: s.warm, Cold: s.cold}
	if s.current != nil {
		sp.PID, sp.Ready = s.current.cmd.Process.Pid, s.current.isReady()
		sp.RSSKiB = rssKiB(sp.PID)
	}
	all := []status.Session{}
	for ses := range s.sessions {
		st := status.Session{Peer: ses.peer, Local: ses.local, Age: time.Since(ses.since), State: "waiting"}
		if p := ses.proc; p != nil {
			p.mu.Lock()
			st.PID, st.State, st.User, st.KeySHA = p.cmd.Process.Pid, string(p.state), p.user, p.fingerprint
			p.mu.Unlock()
		}
		all = append(all, st)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Age > all[j].Age })
	return l, sp, all
}

// rssKiB returns the resident memory of a process in KiB, 0 if it is unknown.
func rssKiB(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize() / 1024
}
