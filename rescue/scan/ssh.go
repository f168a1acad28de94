package scan

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
)

// SSH is a server that has proved to own a host key.
type SSH struct {
	Addr     netip.AddrPort // with zone
	Software string         // from its identification line (RFC 4253 §4.2), printable
	Key      ssh.PublicKey
}

// Fingerprint returns the key's fingerprint as OpenSSH shows it, "SHA256:…".
func (s *SSH) Fingerprint() string { return ssh.FingerprintSHA256(s.Key) }

// Ed25519 returns the key if it is of that type, the only one that instances have.
// A nil server has none.
func (s *SSH) Ed25519() (ed25519.PublicKey, bool) {
	if s == nil {
		return nil, false
	}
	k, ok := s.Key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, false
	}
	pub, ok := k.CryptoPublicKey().(ed25519.PublicKey)
	return pub, ok
}

const (
	sshPort = 22
	// fallbackPort is where an instance listens while another program has port 22.
	fallbackPort = 2222
	// dialTimeout is for a host on the same link, neighbour resolution included.
	dialTimeout = time.Second
	// keyTimeout is from the first SYN to the key: an emulated or busy Pi takes
	// a second for the key exchange.
	keyTimeout = 5 * time.Second
	// maxBanner is how much of what a server says first is kept, in bytes. The
	// line itself has 255 at most; others may precede it (RFC 4253 §4.2).
	maxBanner = 2048
)

// errGotKey ends a handshake once the server has proved its key.
var errGotKey = errors.New("the host key is known")

// Ask asks the SSH server at a link-local address with zone for its identification
// and host key, and goes before authenticating, as ssh-keyscan does. It takes 5 s
// at most. Where nobody listens on port 22, or somebody without the key from which
// a label address is made, it asks on port 2222. ECONNREFUSED says that somebody
// is there, without SSH.
func Ask(ctx context.Context, addr netip.Addr) (*SSH, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	s, err := askPort(ctx, addr, sshPort)
	key, ok := s.Ed25519()
	mayBeElsewhere := errors.Is(err, syscall.ECONNREFUSED) ||
		err == nil && !isEUI64(addr) && !(ok && identity.LabelAddress(key) == addr.WithZone(""))
	if mayBeElsewhere {
		if other, err := askPort(ctx, addr, fallbackPort); err == nil {
			return other, nil
		}
	}
	return s, err
}

func askPort(ctx context.Context, addr netip.Addr, port uint16) (*SSH, error) {
	s := &SSH{Addr: netip.AddrPortFrom(addr, port)}
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp6", s.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("asking for SSH: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	r := &recorder{Conn: conn}
	_, _, _, err = ssh.NewClientConn(r, s.Addr.String(), &ssh.ClientConfig{
		ClientVersion: "SSH-2.0-rescue6_find",
		// The cheapest first: nothing secret follows.
		Config: ssh.Config{KeyExchanges: []string{
			ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeMLKEM768X25519,
			ssh.KeyExchangeDH14SHA256, ssh.InsecureKeyExchangeDH14SHA1,
		}},
		HostKeyAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA, // old appliances have nothing else
		},
		// It is called once the signature of the key exchange is checked.
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			s.Key = key
			return errGotKey
		},
	})
	if s.Key == nil {
		return nil, fmt.Errorf("asking %s for its host key: %w", addr, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Software = software(r.first)
	return s, nil
}

// recorder keeps the beginning of what the peer says.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	first []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := maxBanner - len(r.first); room > 0 {
		r.first = append(r.first, b[:min(n, room)]...)
	}
	return n, err
}

// software returns the softwareversion and comments of the identification line
// among what a server said first (RFC 4253 §4.2: SSH-protoversion-softwareversion
// SP comments CR LF). It is hostile text: only printable ASCII is left.
func software(first []byte) string {
	for line := range bytes.Lines(first) {
		rest, ok := bytes.CutPrefix(line, []byte("SSH-"))
		if !ok {
			continue
		}
		_, said, _ := bytes.Cut(rest[:min(len(rest), 255)], []byte("-"))
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, string(said)))
	}
	return ""
}
