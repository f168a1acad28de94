package listener

import (
	"errors"
	"net"
	"sync"
)

// Handover is the session's end of the pair. Its methods may be called from
// several goroutines.
type Handover struct {
	mu sync.Mutex
	u  *net.UnixConn
}

// NewHandover takes over the descriptor on which the worker waits.
func NewHandover(fd int) (*Handover, error) {
	u, err := unixConn(fd)
	if err != nil {
		return nil, err
	}
	return &Handover{u: u}, nil
}

// Report tells the worker the state of the session. A worker that is gone is no
// error: the session goes on without it.
func (h *Handover) Report(s State, user, fingerprint string) {
	h.write(message{State: s, User: user, Fingerprint: fingerprint})
}

func (h *Handover) write(m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = send(h.u, m, nil)
}

// Wait says that the process is ready, answers pings, and returns the connection
// once it comes. The error is io.EOF if the worker ended first. After Wait has
// returned a connection, pings are answered in the background until the worker
// goes away.
func (h *Handover) Wait() (net.Conn, error) {
	h.write(message{State: StateReady})
	for {
		m, conn, err := receive(h.u)
		switch {
		case err != nil:
			return nil, err
		case m.Ping != 0:
			h.write(message{Pong: m.Ping})
		case m.Connection && conn != nil:
			go h.answer()
			return conn, nil
		case m.Connection:
			return nil, errors.New("the worker handed over a connection without its descriptor")
		}
	}
}

// answer answers pings until the worker is gone.
func (h *Handover) answer() {
	for {
		m, conn, err := receive(h.u)
		if err != nil {
			return
		}
		if conn != nil {
			conn.Close()
		}
		if m.Ping != 0 {
			h.write(message{Pong: m.Ping})
		}
	}
}
