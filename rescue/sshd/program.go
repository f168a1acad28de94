//go:build linux

package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// hangupGrace is how long what runs has to end after a hangup.
const hangupGrace = 5 * time.Second

// status is how a program ended.
type status struct {
	code   int
	signal syscall.Signal // if it was killed
}

// running is a process that was started, and its side of the terminal.
type running struct {
	cmd    *exec.Cmd
	master *os.File // nil without a terminal
}

// program returns what runs a command, or a login shell.
func (s *session) program(command string, login bool) func(context.Context) status {
	if s.c.key.Command != "" {
		command, login = s.c.key.Command, false
	}
	// A copy: the window may change from now on.
	var term *terminal
	if s.pty != nil {
		t := *s.pty
		term = &t
	}
	env := s.environ()
	return func(ctx context.Context) status {
		cmd := s.c.Shell(command, login)
		cmd.Env = append(cmd.Env, env...)
		var st status
		var err error
		if term != nil {
			st, err = s.runOnTerminal(ctx, cmd, term)
		} else {
			st, err = s.runOnPipes(ctx, cmd)
		}
		if err == nil {
			return st
		}
		// No process, no pipe or no terminal to be had: then in this one.
		s.c.Log.Warn("starting a process", "err", err)
		if s.c.Inline == nil {
			fmt.Fprintf(s.ch.Stderr(), "rescue-session: %v\n", err)
			return status{code: 126}
		}
		return status{code: s.c.Inline(ctx, command, login, s.ch, s.ch, s.ch.Stderr())}
	}
}

// runOnPipes runs the process on three pipes. The error tells that it did not
// start.
func (s *session) runOnPipes(ctx context.Context, cmd *exec.Cmd) (status, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return status{}, err
	}
	defer in.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return status{}, err
	}
	defer outR.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		outW.Close()
		return status{}, err
	}
	defer errR.Close()
	cmd.Stdout, cmd.Stderr = outW, errW
	err = cmd.Start()
	outW.Close()
	errW.Close()
	if err != nil {
		return status{}, err
	}
	s.setProcess(&running{cmd: cmd})

	go func() {
		_, _ = io.Copy(in, s.ch)
		in.Close()
	}()
	var output sync.WaitGroup
	output.Go(func() { _, _ = io.Copy(s.ch, outR) })
	output.Go(func() { _, _ = io.Copy(s.ch.Stderr(), errR) })
	stop := s.hangUp(ctx, cmd, outR, errR)
	defer stop()
	// What runs on in the background may keep the pipes: then so does the
	// channel, as with OpenSSH.
	output.Wait()
	return ended(cmd), nil
}

// runOnTerminal runs the process on a terminal of its own.
func (s *session) runOnTerminal(ctx context.Context, cmd *exec.Cmd, term *terminal) (status, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return status{}, err
	}
	defer master.Close()
	term.apply(master)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(cmd.Env, "SSH_TTY="+slave.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return status{}, err
	}
	s.setProcess(&running{cmd: cmd, master: master})

	go func() { _, _ = io.Copy(master, s.ch) }()
	output := make(chan struct{})
	go func() {
		defer close(output)
		_, _ = io.Copy(s.ch, master)
	}()
	stop := s.hangUp(ctx, cmd, master)
	defer stop()
	st := ended(cmd)
	// The rest of the output; a process left in the background keeps the
	// terminal open, but not the session.
	select {
	case <-output:
	case <-time.After(500 * time.Millisecond):
		master.Close()
		<-output
	}
	return st, nil
}

// hangUp arranges that the end of ctx ends the process and all of its group:
// politely first, and its output is then read no more.
func (s *session) hangUp(ctx context.Context, cmd *exec.Cmd, output ...*os.File) (stop func()) {
	gone := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
		select {
		case <-gone:
		case <-time.After(hangupGrace):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		for _, f := range output {
			f.Close()
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() { close(gone) })
		cancel()
	}
}

// ended waits for the process.
func ended(cmd *exec.Cmd) status {
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		ws, _ := exit.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			return status{signal: ws.Signal()}
		}
		return status{code: ws.ExitStatus()}
	}
	if err != nil {
		return status{code: 255}
	}
	return status{}
}

// sftp serves the sftp subsystem.
func (s *session) sftp(context.Context) status {
	server, err := sftp.NewServer(stream{s.ch})
	if err != nil {
		return status{code: 1}
	}
	defer server.Close()
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return status{code: 1}
	}
	return status{}
}

// stream is a channel whose Close leaves room for the exit status.
type stream struct{ ssh.Channel }

func (s stream) Close() error { return s.CloseWrite() }

// exit tells the peer how the program ended (RFC 4254 §6.10).
func (s *session) exit(st status) {
	_ = s.ch.CloseWrite()
	if name, ok := signalNames[st.signal]; ok {
		_, _ = s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}{Name: name}))
		return
	}
	_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(st.code)}))
}

// signalNames are the signals that SSH knows (RFC 4254 §6.10).
var signalNames = map[syscall.Signal]string{
	syscall.SIGABRT: "ABRT", syscall.SIGALRM: "ALRM", syscall.SIGFPE: "FPE", syscall.SIGHUP: "HUP",
	syscall.SIGILL: "ILL", syscall.SIGINT: "INT", syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE",
	syscall.SIGQUIT: "QUIT", syscall.SIGSEGV: "SEGV", syscall.SIGTERM: "TERM",
	syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
}

func (s *session) signal(name string) bool {
	r := s.getProcess()
	for sig, n := range signalNames {
		if n == name && r != nil {
			return syscall.Kill(-r.cmd.Process.Pid, sig) == nil
		}
	}
	return false
}

// resize notes a new size of the window and passes it on.
func (s *session) resize(columns, rows, width, height uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pty.Columns, s.pty.Rows, s.pty.Width, s.pty.Height = columns, rows, width, height
	if s.process != nil && s.process.master != nil {
		s.pty.apply(s.process.master)
	}
}

// apply gives a terminal the window's size, of which the kernel holds 16 bits each.
// The file may be closed meanwhile: hence not by its descriptor.
func (t *terminal) apply(master *os.File) {
	clip := func(n uint32) uint16 { return uint16(min(n, 65535)) }
	size := &unix.Winsize{Col: clip(t.Columns), Row: clip(t.Rows), Xpixel: clip(t.Width), Ypixel: clip(t.Height)}
	if c, err := master.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
	}
}
