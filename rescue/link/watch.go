//go:build linux

package link

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The pause before events are subscribed to again doubles from one to the other.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// Watch wakes whoever reads from wake when links, addresses, routes or their
// IPv6 settings may have changed; it never waits for the reader, so wake should
// have room for one. It blocks until ctx ends and returns its error.
//
// Nothing else ends it. When events were lost or cannot be had, it wakes and
// subscribes again, after 100 ms at first and every 5 s later on. It also wakes
// after each subscription: what is read then misses nothing.
//
// The namespace is that of the thread which calls Watch.
func Watch(ctx context.Context, wake chan<- struct{}) error {
	return watch(ctx, wake, subscribe)
}

func watch(ctx context.Context, wake chan<- struct{}, subscribe func() (io.ReadCloser, error)) error {
	pause := minPause
	for {
		events, err := subscribe()
		if err == nil && receive(ctx, wake, events) {
			pause = minPause
		}
		notify(wake)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

// receive wakes at once and for each event, until one cannot be received or ctx
// ends. It says whether there was an event.
func receive(ctx context.Context, wake chan<- struct{}, events io.ReadCloser) (received bool) {
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer func() {
		if stop() {
			events.Close()
		}
	}()
	// What does not fit is cut off: nobody looks at it.
	buf := make([]byte, 4096)
	for {
		notify(wake)
		if _, err := events.Read(buf); err != nil {
			return received
		}
		received = true
	}
}

func notify(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// groups are the rtnetlink multicast groups of what [List] shows.
const groups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) |
	1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV6_ROUTE-1) | // a flushed fe80::/64 route makes an address useless
	1<<(unix.RTNLGRP_IPV6_IFINFO-1) |
	1<<(unix.RTNLGRP_IPV6_NETCONF-1) // forwarding

// subscribe opens a socket that receives the kernel's events. A read returns the
// start of one, or ENOBUFS after some were lost.
func subscribe() (io.ReadCloser, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribing to events of links: %w", err)
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}
