// Package listener owns the SSH listener: the socket and its filter, the limits,
// the session process that is always warm, and the handing over of connections.
// It never reads a byte that a peer sent.
//
//	peer ──SYN──► [::]:22 ──kernel filter──► accept ──limits──► warm spare
//	              one socket, never          worker            rescue-session,
//	              re-bound                                     one per connection
package listener

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Scope says to which destination addresses the listener answers. To all others
// the port is silent: no SYN-ACK and no RST.
type Scope string

// The scopes, each wider than the one before.
const (
	ScopeLink    Scope = "link"    // fe80::/10 (RFC 4291 §2.5.6)
	ScopePrivate Scope = "private" // and fc00::/7 (RFC 4193)
	ScopeGlobal  Scope = "global"  // every IPv6 address
)

// ParseScope returns the scope of that name, or an error that lists the names.
func ParseScope(s string) (Scope, error) {
	switch sc := Scope(s); sc {
	case ScopeLink, ScopePrivate, ScopeGlobal:
		return sc, nil
	}
	return "", fmt.Errorf("scope %q is not one of link, private, global", s)
}

// backlog is how many connections the kernel completes while the worker is being
// restarted. The kernel caps it at net.core.somaxconn.
const backlog = 1024

// filter returns the classic BPF program of a scope, nil for ScopeGlobal. It
// looks at the first bits of the destination address, which stands at offset 24
// of the IPv6 header (RFC 8200 §3); SKF_NET_OFF counts from that header whatever
// the link layer is.
func filter(s Scope) []unix.SockFilter {
	const (
		skfNetOff = 0xfff00000 // SKF_NET_OFF, as the unsigned word that BPF holds
		dst       = skfNetOff + 24
		keep      = 0xffffffff
	)
	ldh := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: k}
	}
	and := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
	}
	jeq := func(k uint32, t, f uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: t, Jf: f, K: k}
	}
	ret := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
	}
	switch s {
	case ScopeLink:
		return []unix.SockFilter{ldh(dst), and(0xffc0), jeq(0xfe80, 0, 1), ret(keep), ret(0)}
	case ScopePrivate:
		return []unix.SockFilter{
			ldh(dst), and(0xffc0), jeq(0xfe80, 3, 0),
			ldh(dst), and(0xfe00), jeq(0xfc00, 0, 1), ret(keep), ret(0),
		}
	default:
		return nil
	}
}

// Listen opens the listener: IPv6 only, on every address of every interface there
// is or will be, behind the filter of the scope, which is attached before the
// socket is bound and locked. The port is 1 to 65535. errors.Is(err,
// syscall.EADDRINUSE) tells that another program has the port.
func Listen(port int, scope Scope) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening an IPv6 socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("tcp [::]:%d", port))
	if err := setUp(fd, port, scope); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func setUp(fd, port int, scope Scope) error {
	for _, o := range []struct {
		level, opt, value int
		what              string
	}{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
		// Sessions outlive the listener, and must not keep its successor out.
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("setting %s: %w", o.what, err)
		}
	}
	if prog := filter(scope); prog != nil {
		fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
			return fmt.Errorf("attaching the socket filter: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1); err != nil {
			return fmt.Errorf("locking the socket filter: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil {
		return fmt.Errorf("binding [::]:%d: %w", port, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listening on [::]:%d: %w", port, err)
	}
	return nil
}

// InUse adds the fix to an error of Listen that says that the port is taken, and
// returns any other error as it is.
func InUse(port int, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("port %d is in use: stop what listens there (ss -ltnp 'sport = :%d' names it), "+
		"or give another with -port; breakglass beside rescued needs -port too: %w", port, port, err)
}
