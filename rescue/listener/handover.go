package listener

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The worker and a session process talk over a pair of SOCK_SEQPACKET sockets:
// one small JSON object per packet, and with one of them the connection itself
// (SCM_RIGHTS). Neither side is trusted to answer in time.
const maxMessage = 4096 // bytes

// State is what a session tells about its connection.
type State string

// The states of a session, in their order.
const (
	StateReady State = "ready" // warm: threads, keys and memory are there
	StateKex   State = "kex"   // it has a connection, key exchange goes on
	StateAuth  State = "auth"  // keys are exchanged, the peer authenticates
	StateOpen  State = "open"  // the peer is logged in
)

// message is what goes over the pair, in either direction.
type message struct {
	Connection  bool   `json:"connection,omitempty"` // worker: the descriptor comes with this
	Ping        uint64 `json:"ping,omitempty"`       // worker: answer with Pong
	Pong        uint64 `json:"pong,omitempty"`
	State       State  `json:"state,omitempty"`
	User        string `json:"user,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// newPair returns the two ends of a socket pair: ours and the session's.
func newPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "session")
	ours, err = unixConn(fds[0])
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// unixConn takes over the descriptor fd.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("taking over descriptor %d: %w", fd, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor %d is a %s socket, not a unix one", fd, c.LocalAddr().Network())
	}
	return u, nil
}

// send writes one message, with the connection if there is one.
func send(u *net.UnixConn, m message, conn *net.TCPConn) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if conn == nil {
		_, err = u.Write(b)
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		_, _, err = u.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	})
	return errors.Join(ctlErr, err)
}

// receive reads one message and the connection that came with it, if one did.
func receive(u *net.UnixConn) (message, net.Conn, error) {
	buf := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := u.ReadMsgUnix(buf, oob)
	if err != nil {
		return message{}, nil, err
	}
	if n == 0 {
		return message{}, nil, io.EOF
	}
	conn, err := connection(oob[:oobn])
	if err != nil {
		return message{}, nil, err
	}
	var m message
	if err := json.Unmarshal(buf[:n], &m); err != nil {
		if conn != nil {
			conn.Close()
		}
		return message{}, nil, fmt.Errorf("reading a message of the pair: %w", err)
	}
	return m, conn, nil
}

// connection returns the connection whose descriptor is in a control message,
// nil if there is none.
func connection(oob []byte) (net.Conn, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	scms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("reading a control message: %w", err)
	}
	for _, scm := range scms {
		fds, err := unix.ParseUnixRights(&scm)
		if err != nil || len(fds) == 0 {
			continue
		}
		unix.CloseOnExec(fds[0])
		f := os.NewFile(uintptr(fds[0]), "connection")
		defer f.Close()
		return net.FileConn(f)
	}
	return nil, nil
}
