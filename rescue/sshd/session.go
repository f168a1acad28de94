//go:build linux

package sshd

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Bounds on the environment that a client may set.
const (
	maxEnv      = 64
	maxEnvBytes = 4096
)

// session is one session channel (RFC 4254 §6): what was asked for so far.
type session struct {
	c   *connection
	ch  ssh.Channel
	env []string
	pty *terminal // nil if none was asked for

	done chan struct{} // closed when the program has ended

	mu      sync.Mutex
	process *running // once there is one
}

func (s *session) setProcess(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = r
	if r.master != nil { // the window may have changed meanwhile
		s.pty.apply(r.master)
	}
}

func (s *session) getProcess() *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// terminal is a pseudo-terminal that was asked for (RFC 4254 §6.2).
type terminal struct {
	Term          string
	Columns, Rows uint32
	Width, Height uint32 // pixels
	Modes         string
}

func (c *connection) session(ctx context.Context, n ssh.NewChannel) {
	ch, requests, err := n.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{c: c, ch: ch, done: make(chan struct{})}
	started := false
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				// The peer has closed the channel: nobody is left to read.
				cancel()
				if started {
					<-s.done
				}
				return
			}
			run := s.request(r, started)
			if run != nil && !started {
				started = true
				go func() {
					defer close(s.done)
					s.exit(run(ctx))
				}()
			}
		case <-s.done:
			return
		}
	}
}

// request answers one request on the channel. It returns what has to run, if the
// request asked for that.
func (s *session) request(r *ssh.Request, started bool) func(context.Context) status {
	ok := false
	var run func(context.Context) status
	switch r.Type {
	case "env":
		ok = s.setenv(r.Payload)
	case "pty-req":
		var t terminal
		if !s.c.key.NoPTY && !started && ssh.Unmarshal(r.Payload, &t) == nil {
			s.pty, ok = &t, true
		}
	case "window-change":
		var w struct{ Columns, Rows, Width, Height uint32 }
		ok = ssh.Unmarshal(r.Payload, &w) == nil && s.pty != nil
		if ok {
			s.resize(w.Columns, w.Rows, w.Width, w.Height)
		}
	case "signal":
		var p struct{ Name string }
		ok = ssh.Unmarshal(r.Payload, &p) == nil && s.signal(p.Name)
	case "shell":
		ok, run = true, s.program("", s.c.key.Command == "")
	case "exec":
		var p struct{ Command string }
		if ok = ssh.Unmarshal(r.Payload, &p) == nil; ok {
			run = s.program(p.Command, false)
		}
	case "subsystem":
		var p struct{ Name string }
		if ssh.Unmarshal(r.Payload, &p) == nil && p.Name == "sftp" && s.c.key.Command == "" {
			ok, run = true, s.sftp
		}
	}
	if started && run != nil {
		ok, run = false, nil // one program for each channel (RFC 4254 §6.5)
	}
	if r.WantReply {
		_ = r.Reply(ok, nil)
	}
	return run
}

// setenv notes a variable. Names are plain, and PATH and the loader's stay ours.
func (s *session) setenv(payload []byte) bool {
	var p struct{ Name, Value string }
	if ssh.Unmarshal(payload, &p) != nil || len(s.env) >= maxEnv || len(p.Name)+len(p.Value) > maxEnvBytes {
		return false
	}
	for _, r := range p.Name {
		if r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	if p.Name == "" || p.Name == "PATH" || strings.HasPrefix(p.Name, "LD_") || strings.ContainsRune(p.Value, 0) {
		return false
	}
	s.env = append(s.env, p.Name+"="+p.Value)
	return true
}

// environ returns the environment of the program.
func (s *session) environ() []string {
	env := append([]string{"HOME=/perm", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TZ="}, s.env...)
	for _, name := range []string{"PATH", "RESCUED_CONTROL"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	peer, peerPort, _ := net.SplitHostPort(s.c.ssh.RemoteAddr().String())
	local, localPort, _ := net.SplitHostPort(s.c.ssh.LocalAddr().String())
	env = append(env, "SSH_CONNECTION="+strings.Join([]string{peer, peerPort, local, localPort}, " "),
		"SSH_CLIENT="+strings.Join([]string{peer, peerPort, localPort}, " "))
	if s.pty != nil {
		env = append(env, "TERM="+s.pty.Term)
	}
	return env
}
