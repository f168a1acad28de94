package link

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rescue6/rescue/link/linktest"
)

// Each kind of change wakes, and the end of the context ends Watch.
func TestWatch(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	a, b := cable(t)
	for _, n := range []*linktest.Namespace{a, b} {
		if _, err := n.LinkLocal(t.Context(), "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Do(func() error { return Watch(ctx, wake) })
	}()
	waitWake(t, wake, "the start")

	for _, change := range []struct {
		name string
		f    func() error
	}{
		{"IPv4 address", func() error { return a.AddAddress("eth0", netip.MustParsePrefix("192.0.2.1/24")) }},
		{"IPv6 address", func() error { return a.AddAddress("eth0", netip.MustParsePrefix("fe80::1/64")) }},
		{"IPv4 route", func() error { _, err := a.Run(ctx, "ip", "route", "add", "default", "via", "192.0.2.2"); return err }},
		{"IPv6 route", func() error { _, err := a.Run(ctx, "ip", "-6", "route", "flush", "fe80::/64"); return err }},
		{"forwarding", func() error { return a.Sysctl("net/ipv6/conf/eth0/forwarding", "1") }},
		{"IPv6 off", func() error { return a.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1") }},
		{"carrier", func() error { return b.SetDown("eth0") }},
		{"new link", func() error { return linktest.Veth(a, "c", a, "d") }},
		{"gone link", func() error { return a.Delete("eth0") }},
	} {
		settle(wake)
		if err := change.f(); err != nil {
			t.Fatal(err)
		}
		waitWake(t, wake, change.name)
	}

	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Watch did not end with its context")
	}
}

// settle empties wake until it has been quiet for a while, so that what comes
// next is due to the next change.
func settle(wake <-chan struct{}) {
	for {
		select {
		case <-wake:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

func waitWake(t *testing.T, wake <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s did not wake", what)
	}
}

// events stands for a socket: it fails, with err at once or, without, when it is
// closed.
type events struct {
	err    error
	closed chan struct{}
}

func (e *events) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	<-e.closed
	return 0, io.ErrClosedPipe
}

func (e *events) Close() error {
	close(e.closed) // panics if it is closed twice
	return nil
}

// No error ends Watch; each one wakes, and the pauses grow to 5 s.
func TestWatchSurvivesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		opens := make(chan time.Duration, 8)
		attempts := 0
		open := func() (io.ReadCloser, error) {
			opens <- time.Since(start)
			attempts++
			switch {
			case attempts <= 6:
				return nil, unix.EMFILE
			case attempts == 7:
				return &events{err: unix.ENOBUFS, closed: make(chan struct{})}, nil
			default:
				return &events{closed: make(chan struct{})}, nil
			}
		}
		wake := make(chan struct{}, 1)
		ended := make(chan error)
		go func() { ended <- watch(ctx, wake, open) }()

		var opened []time.Duration
		woken := 0
		for len(opened) < 8 {
			select {
			case at := <-opens:
				opened = append(opened, at)
			case <-wake:
				woken++
			}
		}
		if woken < 7 {
			t.Errorf("woken %d times by 7 errors", woken)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("watch returned %v", err)
		}
		want := []time.Duration{0, 100, 300, 700, 1500, 3100, 6300, 11300} // ms
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(opened, want) {
			t.Errorf("opened at %v, want %v", opened, want)
		}
	})
}
