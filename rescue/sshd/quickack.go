//go:build linux

package sshd

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickReads is how many reads of a connection are acknowledged at once: more than
// a login takes, and nothing beside a transfer.
const quickReads = 64

// quickAck acknowledges what comes at first without delay. OpenSSH's client waits
// for an acknowledgement between its messages until a session is interactive
// (Nagle's algorithm, RFC 9293 §3.7.4), and the kernel delays it by 40 ms when the
// server has nothing to say, as after the client's NEWKEYS: most of a login.
type quickAck struct {
	*net.TCPConn
	reads int // one goroutine reads
}

// acknowledgeAtOnce returns conn, with that if it is TCP.
func acknowledgeAtOnce(conn net.Conn) net.Conn {
	if c, ok := conn.(*net.TCPConn); ok {
		return &quickAck{TCPConn: c}
	}
	return conn
}

func (q *quickAck) Read(b []byte) (int, error) {
	n, err := q.TCPConn.Read(b)
	if err == nil && q.reads < quickReads {
		q.reads++
		// The kernel forgets it after a while: again each time (tcp(7)).
		if c, err := q.SyscallConn(); err == nil {
			_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
		}
	}
	return n, err
}
