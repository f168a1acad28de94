package linktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Namespace is one network namespace. Its methods may be called by several
// goroutines at a time.
type Namespace struct {
	name string
	ns   *os.File // the namespace itself: /proc/thread-self/ns/net of its thread

	// A thread that stays inside runs what is sent here. Commands are started by
	// it, because the kernel takes the end of the thread that started a process
	// for the end of its parent (PR_SET_PDEATHSIG).
	calls chan func()
	quit  chan struct{} // closed by Close
	ended chan struct{} // closed by the thread
	close sync.Once
}

// New makes a namespace with its loopback up. The name is for messages only.
// [Namespace.Close] ends it.
func New(name string) (*Namespace, error) {
	n := &Namespace{name: name, calls: make(chan func()), quit: make(chan struct{}), ended: make(chan struct{})}
	ready := make(chan error)
	goThread(func() { n.thread(ready) })
	if err := <-ready; err != nil {
		<-n.ended
		return nil, fmt.Errorf("making namespace %s: %w", name, err)
	}
	// Links made from now on send their first probe at once.
	err := n.Do(func() error {
		return errors.Join(
			n.SetUp("lo"),
			ipv6Sysctl("conf/default/router_solicitation_delay", "0"),
		)
	})
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("preparing namespace %s: %w", name, err)
	}
	return n, nil
}

// TB is what [ForTest] needs of a testing.TB. (This package does not import
// testing, since programs use it too.)
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// ForTest makes a namespace that is closed at the end of the test.
func ForTest(t TB, name string) *Namespace {
	t.Helper()
	n, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// thread enters a new namespace and runs calls in it until Close.
func (n *Namespace) thread(ready chan<- error) {
	defer close(n.ended)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("unsharing the network namespace: %w", err)
		return
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	n.ns = f
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case f := <-n.calls:
			f()
		case <-n.quit:
			return
		}
	}
}

// onThread runs f on the thread that stays inside, one call at a time.
func (n *Namespace) onThread(f func() error) error {
	result := make(chan error, 1)
	select {
	case n.calls <- func() { result <- f() }:
		return <-result
	case <-n.ended:
		return fmt.Errorf("namespace %s: %w", n.name, os.ErrClosed)
	}
}

// Name returns the name that was given to New.
func (n *Namespace) Name() string { return n.name }

// Do calls f in the calling goroutine, on an OS thread that is inside the
// namespace meanwhile. Sockets that f opens stay in the namespace; goroutines
// that it starts run outside. Calls may be nested and may run at the same time.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("opening the current namespace: %w", err)
	}
	defer before.Close()
	if err := enter(n.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering namespace %s: %w", n.name, err)
	}
	// Also when f panics or ends the goroutine (t.Fatal). A thread that cannot
	// go back stays locked and so ends with the goroutine.
	defer func() {
		if enter(before) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// enter moves the calling thread into a network namespace.
func enter(ns *os.File) error {
	c, err := ns.SyscallConn()
	if err != nil {
		return err
	}
	var setns error
	if err := c.Control(func(fd uintptr) { setns = unix.Setns(int(fd), unix.CLONE_NEWNET) }); err != nil {
		return err
	}
	return setns
}

// pollEvery is how often [Namespace.WaitFor] asks, and waitAtMost how long if
// the context sets no deadline.
const (
	pollEvery  = 10 * time.Millisecond
	waitAtMost = 10 * time.Second
)

// WaitFor calls f inside the namespace every 10 ms until it returns true. It
// gives up when ctx ends, after 10 s if ctx has no deadline, and at the first
// error of f. The error says what was waited for.
func (n *Namespace) WaitFor(ctx context.Context, what string, f func() (bool, error)) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, waitAtMost)
		defer cancel()
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var ok bool
		err := n.Do(func() (err error) {
			ok, err = f()
			return err
		})
		if err != nil {
			return fmt.Errorf("waiting in %s for %s: %w", n.name, what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting in %s for %s: %w", n.name, what, ctx.Err())
		case <-tick.C:
		}
	}
}

// Close kills every process that is still inside and gives the namespace up;
// the kernel removes it, with its links, when the last socket of it is closed.
// Calling it again does nothing.
func (n *Namespace) Close() error {
	var err error
	n.close.Do(func() {
		err = n.killAll()
		close(n.quit)
		<-n.ended
		err = errors.Join(err, n.ns.Close())
	})
	return err
}
