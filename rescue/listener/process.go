package listener

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one session process, as the worker sees it: first the spare, later
// the process of one connection, then gone.
type process struct {
	cmd     *exec.Cmd
	pair    *net.UnixConn
	started time.Time
	log     *slog.Logger

	ready chan struct{} // closed once it has said that it is ready
	acked chan struct{} // closed once it has taken its connection
	open  chan struct{} // closed once its peer is logged in
	done  chan struct{} // closed once it has ended and was waited for

	killed atomic.Bool // by us

	mu          sync.Mutex
	state       State
	lastPong    time.Time
	user        string
	fingerprint string
}

// maxLog bounds what one session process may write to the log, in bytes.
const maxLog = 64 << 10

// startProcess starts a session process.
func startProcess(cfg Config) (*process, error) {
	ours, theirs, err := newPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	r, w, err := os.Pipe()
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer w.Close()
	cmd, err := cfg.Start(theirs, w)
	if err != nil {
		ours.Close()
		r.Close()
		return nil, err
	}
	p := &process{
		cmd: cmd, pair: ours, started: time.Now(), lastPong: time.Now(),
		log:   cfg.Log.With("pid", cmd.Process.Pid),
		ready: make(chan struct{}), acked: make(chan struct{}),
		open: make(chan struct{}), done: make(chan struct{}),
	}
	go p.logLines(r)
	go p.read()
	go p.wait(cfg.Incident)
	return p, nil
}

// logLines passes on what the process writes to its standard error.
func (p *process) logLines(r *os.File) {
	defer r.Close()
	s := bufio.NewScanner(io.LimitReader(r, maxLog))
	for s.Scan() {
		p.log.Info("session process", "says", s.Text())
	}
	// What is beyond the bound is read all the same: a full pipe would stop it.
	_, _ = io.Copy(io.Discard, r)
}

// read follows what the process reports.
func (p *process) read() {
	for {
		m, conn, err := receive(p.pair)
		if err != nil {
			return
		}
		if conn != nil {
			conn.Close()
		}
		p.mu.Lock()
		if m.Pong != 0 {
			p.lastPong = time.Now()
		}
		p.advanceLocked(m)
		p.mu.Unlock()
	}
}

// advanceLocked moves to the state that m reports. States only go forward.
func (p *process) advanceLocked(m message) {
	switch {
	case m.State == StateReady && p.state == "":
		p.lastPong = time.Now()
		close(p.ready)
	case m.State == StateKex && p.state == StateReady:
		close(p.acked)
	case m.State == StateAuth && p.state == StateKex:
	case m.State == StateOpen && p.state == StateAuth:
		p.user, p.fingerprint = m.User, m.Fingerprint
		close(p.open)
	default:
		return
	}
	p.state = m.State
}

// wait waits for the end of the process, so that no zombie is left.
func (p *process) wait(incident func(fault, repair string)) {
	err := p.cmd.Wait()
	p.pair.Close()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		if !p.killed.Load() {
			incident("a session process was killed", "another was started")
		}
		p.log.Warn("session process was killed", "signal", exit.Sys().(syscall.WaitStatus).Signal().String())
	}
	close(p.done)
}

// kill ends the process, whatever it is doing.
func (p *process) kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill()
}

// isReady says whether it is warm.
func (p *process) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// hasEnded says whether it is gone.
func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ping asks the process for a sign of life and returns how long ago the last one
// came.
func (p *process) ping(n uint64) time.Duration {
	p.mu.Lock()
	age := time.Since(p.lastPong)
	p.mu.Unlock()
	// A process that does not read fills its socket: that is no reason to wait.
	_ = p.pair.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_ = send(p.pair, message{Ping: n}, nil)
	return age
}
