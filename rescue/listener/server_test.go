package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain makes this binary a session process, too: one that tells its process
// ID to whoever connects and then echoes.
func TestMain(m *testing.M) {
	if os.Getenv("LISTENER_TEST_SESSION") != "" {
		os.Exit(testSession())
	}
	status := m.Run()
	// Sessions end when their peers have gone, a moment after the tests.
	for end := time.Now().Add(20 * time.Second); hasChildren() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func hasChildren() bool {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		if b, _ := os.ReadFile(l); len(b) > 0 {
			return true
		}
	}
	return false
}

func testSession() int {
	h, err := NewHandover(3)
	if err != nil {
		return 1
	}
	conn, err := h.Wait()
	if err != nil {
		return 0
	}
	h.Report(StateKex, "", "")
	h.Report(StateAuth, "", "")
	h.Report(StateOpen, "root", "SHA256:x")
	fmt.Fprintln(conn, os.Getpid())
	_, _ = io.Copy(conn, conn)
	return 0
}

// harness is a server on a loopback port with this binary as its sessions.
type harness struct {
	*Server
	t    *testing.T
	port int
}

func start(t *testing.T) *harness {
	t.Helper()
	port := freePort(t)
	sock, err := Listen(port, ScopeGlobal) // a test namespace has no fe80 on lo
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	s := New(Config{Socket: sock, Port: port, Scope: ScopeGlobal, Log: slog.New(slog.DiscardHandler),
		Start: func(pair, stderr *os.File) (*exec.Cmd, error) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "LISTENER_TEST_SESSION=1")
			cmd.ExtraFiles, cmd.Stderr = []*os.File{pair}, stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			return cmd, cmd.Start()
		}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &harness{s, t, port}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// connect returns a connection and the process that serves it.
func (h *harness) connect() (net.Conn, int) {
	h.t.Helper()
	c, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", h.port))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	var pid int
	if _, err := fmt.Fscanln(c, &pid); err != nil {
		h.t.Fatalf("reading the greeting: %v", err)
	}
	return c, pid
}

// waitFor polls a condition that nothing announces.
func (h *harness) waitFor(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// warmSpare waits for a warm spare and returns its process ID.
func (h *harness) warmSpare() int {
	h.t.Helper()
	var pid int
	h.waitFor("a warm spare", func() bool {
		_, sp, _ := h.Status()
		pid = sp.PID
		return sp.Ready
	})
	return pid
}

func TestEachConnectionHasItsOwnWarmProcess(t *testing.T) {
	h := start(t)
	seen := map[int]bool{}
	for range 3 {
		spare := h.warmSpare()
		_, pid := h.connect()
		if pid != spare {
			t.Errorf("served by %d, but the warm spare was %d", pid, spare)
		}
		if seen[pid] {
			t.Errorf("process %d served two connections", pid)
		}
		seen[pid] = true
	}
	h.waitFor("three open sessions", func() bool {
		_, sp, all := h.Status()
		open := 0
		for _, s := range all {
			if s.State == string(StateOpen) && s.User == "root" {
				open++
			}
		}
		return open == 3 && sp.WarmHits == 3 && sp.Cold == 0
	})
}

func TestBurstIsServedWithoutAWarmSpare(t *testing.T) {
	h := start(t)
	for range 12 {
		h.connect()
	}
	if l, _, all := h.Status(); l.Refused != 0 || len(all) != 12 {
		t.Errorf("%d refused and %d sessions, want 0 and 12", l.Refused, len(all))
	}
}

func TestKilledSpareIsReplaced(t *testing.T) {
	h := start(t)
	old := h.warmSpare()
	kill(t, old, syscall.SIGKILL)
	h.waitFor("another spare", func() bool { return h.warmSpare() != old })
	if _, pid := h.connect(); pid == old {
		t.Errorf("served by %d, which was killed", pid)
	}
}

// A stopped process holds its descriptor and completes nothing: the connection
// has to move on to another, and its peer must not notice.
func TestConnectionGivenToAStoppedSpareIsServed(t *testing.T) {
	h := start(t)
	old := h.warmSpare()
	kill(t, old, syscall.SIGSTOP)
	c, pid := h.connect()
	if pid == old {
		t.Fatalf("served by %d, which is stopped", pid)
	}
	fmt.Fprintln(c, "echo")
	var line string
	if _, err := fmt.Fscanln(c, &line); err != nil || line != "echo" {
		t.Errorf("read %q, %v from the second process", line, err)
	}
}

func TestKilledSessionTakesNoOtherAlong(t *testing.T) {
	h := start(t)
	a, pidA := h.connect()
	b, _ := h.connect()
	kill(t, pidA, syscall.SIGKILL)
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a killed session still reads")
	}
	fmt.Fprintln(b, "alive")
	var line string
	if _, err := fmt.Fscanln(b, &line); err != nil || line != "alive" {
		t.Errorf("the other session: read %q, %v", line, err)
	}
	h.connect()
}

// A worker that ends leaves its sessions alone; its spare goes with it, and the
// socket that it did not close serves the next worker.
func TestSessionsOutliveTheServer(t *testing.T) {
	var session net.Conn
	t.Run("worker", func(t *testing.T) {
		h := start(t)
		first, _ := h.connect()
		f, err := first.(*net.TCPConn).File() // the harness closes the first one
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if session, err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
	})
	defer session.Close()
	_ = session.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintln(session, "alive")
	var line string
	if _, err := fmt.Fscanln(session, &line); err != nil || line != "alive" {
		t.Errorf("after the worker's end the session echoed %q, %v", line, err)
	}
}

func TestPortInUseNamesTheFix(t *testing.T) {
	port := freePort(t)
	first, err := Listen(port, ScopeLink)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = Listen(port, ScopeLink)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("a second Listen: %v, want EADDRINUSE", err)
	}
	t.Log(InUse(port, err))
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}
