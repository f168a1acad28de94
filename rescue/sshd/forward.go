//go:build linux

package sshd

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// dialTimeout bounds how long the target of a forwarding may take.
const dialTimeout = 10 * time.Second

// directTCPIP connects the channel to a TCP port (RFC 4254 §7.2). The host may be
// a link-local address with a zone of this machine: so a neighbour is reached
// with ssh -J or -W.
func (c *connection) directTCPIP(ctx context.Context, n ssh.NewChannel) {
	var p struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(n.ExtraData(), &p); err != nil || p.Port > 65535 {
		_ = n.Reject(ssh.ConnectionFailed, "the request cannot be read")
		return
	}
	c.forward(ctx, n, "tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))))
}

// directStreamLocal connects the channel to a unix socket (OpenSSH's PROTOCOL,
// §2.4): gokrazy's web interface is one.
func (c *connection) directStreamLocal(ctx context.Context, n ssh.NewChannel) {
	var p struct {
		Path     string
		Origin   string
		Reserved uint32
	}
	if err := ssh.Unmarshal(n.ExtraData(), &p); err != nil {
		_ = n.Reject(ssh.ConnectionFailed, "the request cannot be read")
		return
	}
	c.forward(ctx, n, "unix", p.Path)
}

func (c *connection) forward(ctx context.Context, n ssh.NewChannel, network, address string) {
	if c.key.NoForwarding {
		_ = n.Reject(ssh.Prohibited, "this key may not forward")
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	target, err := d.DialContext(ctx, network, address)
	if err != nil {
		_ = n.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer target.Close()
	ch, requests, err := n.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(requests)
	stop := context.AfterFunc(ctx, func() { target.Close() })
	defer stop()

	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(target, ch)
		if w, ok := target.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
	})
	both.Go(func() {
		_, _ = io.Copy(ch, target)
		_ = ch.CloseWrite()
	})
	both.Wait()
}
