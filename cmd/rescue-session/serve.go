package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
	"rescue6/rescue/listener"
	"rescue6/rescue/memory"
	"rescue6/rescue/sshd"
)

// The descriptors that rescued passes.
const (
	pairFD = 3
	keysFD = 4
)

// How willingly the kernel ends this process when memory runs out: the spare
// inherits "never" from rescued; an unknown peer is worth nothing, a person who
// is logged in much; and what they start goes before they do.
const (
	oomUnknown = 800
	oomOpen    = -500
	oomShell   = 500
)

// serve is one session process: warm up, wait for a connection, serve it, end.
func serve(ctx context.Context, log *slog.Logger) int {
	memory.SetName("rescue-session")
	// rescued may be gone when we write to our log: that must not end a session.
	// An ignored signal would stay ignored in children, a caught one does not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	if err := serveOne(ctx, log); err != nil && !errors.Is(err, io.EOF) {
		log.Warn("session", "err", err)
		return 1
	}
	return 0
}

func serveOne(ctx context.Context, log *slog.Logger) error {
	server, err := newServer(log)
	if err != nil {
		return err
	}
	pair, err := listener.NewHandover(pairFD)
	if err != nil {
		return fmt.Errorf("%w: rescued starts this, not a person", err)
	}
	// Whoever waits for a login does not wait for the card.
	go func() {
		for _, err := range memory.LockCard() {
			log.Warn("a dead card may end this system", "err", err)
		}
	}()
	warmThreads()

	conn, err := pair.Wait()
	if err != nil {
		return err
	}
	defer conn.Close()
	setOOMScore(oomUnknown)
	pair.Report(listener.StateKex, "", "")
	server.KeyExchanged = func() { pair.Report(listener.StateAuth, "", "") }
	server.Authenticated = func(user, fingerprint string) {
		setOOMScore(oomOpen)
		pair.Report(listener.StateOpen, user, fingerprint)
	}
	if err := server.Serve(ctx, conn); err != nil && !isOwn(conn) {
		return err
	}
	return nil
}

// isOwn says whether the peer is this machine: rescued's probe, which ends before it
// logs in, and is no news.
func isOwn(conn net.Conn) bool {
	peer, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	local, ok2 := conn.LocalAddr().(*net.TCPAddr)
	return ok1 && ok2 && peer.IP.Equal(local.IP)
}

// newServer returns the SSH server with the keys that rescued holds in memory.
func newServer(log *slog.Logger) (*sshd.Server, error) {
	f := os.NewFile(keysFD, "keys")
	// Its offset is shared with every other session: read at a position.
	k, err := identity.ReadKeys(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(keysFD)
	signer, err := ssh.NewSignerFromKey(k.HostKey())
	if err != nil {
		return nil, fmt.Errorf("using the host key: %w", err)
	}
	authorized, _ := sshd.ParseAuthorizedKeys(k.AuthorizedKeys)
	return &sshd.Server{
		HostKey: signer, AuthorizedKeys: authorized,
		Shell: shellCommand, Inline: inlineShell, Log: log,
	}, nil
}

// shellCommand returns the process of a shell: this program in another role.
func shellCommand(line string, login bool) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "sh")
	if !login {
		cmd.Args = append(cmd.Args, "-c", line)
	}
	cmd.Args[0] = "rescue-session"
	cmd.Dir = "/"
	return cmd
}

// warmThreads makes the threads that a session needs, while there is memory for
// them: the Go runtime ends a process that cannot make a thread.
func warmThreads() {
	const threads = 8
	var all, out sync.WaitGroup
	all.Add(threads)
	for range threads {
		out.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	out.Wait()
}

// setOOMScore sets oom_score_adj of this process; without the right to, it stays.
func setOOMScore(n int) { _ = memory.SetOOMScore(n) }
