//go:build linux

// Package sshd serves SSH (RFC 4251 to 4254) over one connection. It knows nothing
// of listeners, and of the shell only how to start it.
//
// Whoever holds an authorized key is root, whatever user name is given: an
// instance has no other user. Logging in opens no file.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// How long a peer may take until its key exchange is through, and then until it
// has authenticated: people need time to touch a FIDO key. After that a session
// may last for ever.
const (
	kexTimeout  = 10 * time.Second
	authTimeout = 120 * time.Second
)

const (
	maxAuthTries = 10 // people's agents hold many keys
	maxChannels  = 64 // open at once, on one connection
)

// Server serves one connection. The functions may be nil, but not Shell.
type Server struct {
	HostKey        ssh.Signer
	AuthorizedKeys []AuthorizedKey

	// KeyExchanged and Authenticated are called once each, when that is through.
	KeyExchanged  func()
	Authenticated func(user, fingerprint string)

	// Shell returns the process that runs a command, or an interactive login
	// shell. Inline does the same in this process, for when the kernel can start
	// no other; it returns the exit status.
	Shell  func(command string, login bool) *exec.Cmd
	Inline func(ctx context.Context, command string, login bool, stdin io.Reader, stdout, stderr io.Writer) int

	Log *slog.Logger

	kexTimeout, authTimeout time.Duration // for tests; zero means the constants
}

// Serve serves the connection until either side ends it, and closes it. Every
// process of the session has been told to end when it returns.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	_ = conn.SetDeadline(time.Now().Add(or(s.kexTimeout, kexTimeout)))
	sc, channels, requests, err := ssh.NewServerConn(acknowledgeAtOnce(conn), s.config(conn))
	if err != nil {
		return fmt.Errorf("login from %s: %w", conn.RemoteAddr(), err)
	}
	defer sc.Close()
	_ = conn.SetDeadline(time.Time{})

	key := s.AuthorizedKeys[keyIndex(sc.Permissions)]
	if s.Authenticated != nil {
		s.Authenticated(sc.User(), ssh.FingerprintSHA256(key.Key))
	}
	c := &connection{Server: s, ssh: sc, key: key}
	ctx, cancel := context.WithCancel(ctx)
	defer c.channels.Wait()
	defer cancel()
	go c.answer(requests)
	for ch := range channels {
		c.open(ctx, ch)
	}
	return nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d != 0 {
		return d
	}
	return otherwise
}

// keyExtension carries the index of the key that logged in.
const keyExtension = "rescue6-authorized-key"

func keyIndex(p *ssh.Permissions) int {
	i, _ := strconv.Atoi(p.Extensions[keyExtension])
	return i
}

// config returns the configuration of one connection: public keys only, and no
// algorithm with SHA-1 or CBC.
func (s *Server) config(conn net.Conn) *ssh.ServerConfig {
	var once sync.Once
	c := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
				"curve25519-sha256@libssh.org", ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521},
			Ciphers: []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256CTR, ssh.CipherAES128CTR},
			MACs:    []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
		},
		ServerVersion: "SSH-2.0-rescue6",
		MaxAuthTries:  maxAuthTries,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			blob := string(key.Marshal())
			for i, a := range s.AuthorizedKeys {
				if string(a.Key.Marshal()) == blob {
					return &ssh.Permissions{Extensions: map[string]string{keyExtension: strconv.Itoa(i)}}, nil
				}
			}
			return nil, errors.New("this key is not authorized")
		},
		// Called with the first authentication request: keys are exchanged.
		BannerCallback: func(ssh.ConnMetadata) string {
			once.Do(func() {
				_ = conn.SetDeadline(time.Now().Add(or(s.authTimeout, authTimeout)))
				if s.KeyExchanged != nil {
					s.KeyExchanged()
				}
			})
			return ""
		},
	}
	c.AddHostKey(s.HostKey)
	return c
}

// connection is a peer that is logged in.
type connection struct {
	*Server
	ssh *ssh.ServerConn
	key AuthorizedKey

	channels sync.WaitGroup
	mu       sync.Mutex
	count    int
}

// answer answers global requests (RFC 4254 §4): a keepalive wants an answer,
// whatever it says; nothing else is offered.
func (c *connection) answer(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(r.Type == "keepalive@openssh.com", nil)
		}
	}
}

// open opens a channel (RFC 4254 §5.1), or says why not.
func (c *connection) open(ctx context.Context, n ssh.NewChannel) {
	serve := map[string]func(context.Context, ssh.NewChannel){
		"session":                        c.session,
		"direct-tcpip":                   c.directTCPIP,
		"direct-streamlocal@openssh.com": c.directStreamLocal,
	}[n.ChannelType()]
	if serve == nil {
		_ = n.Reject(ssh.UnknownChannelType, "channels of type "+n.ChannelType()+" are not served")
		return
	}
	c.mu.Lock()
	full := c.count >= maxChannels
	if !full {
		c.count++
	}
	c.mu.Unlock()
	if full {
		_ = n.Reject(ssh.ResourceShortage, fmt.Sprintf("%d channels are open on this connection: close one", maxChannels))
		return
	}
	c.channels.Go(func() {
		defer func() {
			c.mu.Lock()
			c.count--
			c.mu.Unlock()
		}()
		serve(ctx, n)
	})
}
