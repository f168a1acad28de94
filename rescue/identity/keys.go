package identity

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
)

// Keys is what an instance needs to be logged in to. It is read from the card
// once, checked by a process that may hang or fail, and from then on kept in
// memory: JSON in a sealed memfd that every process of the rescue path inherits.
type Keys struct {
	// HostSeed is the Ed25519 private key's seed (RFC 8032 §5.1.5), 32 bytes.
	HostSeed []byte `json:"host_seed"`
	// AuthorizedKeys is the content of the authorized_keys file, which has at
	// least one good line.
	AuthorizedKeys []byte `json:"authorized_keys"`
}

// maxKeys bounds the bundle, in bytes.
const maxKeys = 1 << 20

// Write writes the bundle.
func (k Keys) Write(w io.Writer) error { return json.NewEncoder(w).Encode(k) }

// ReadKeys reads what Write wrote.
func ReadKeys(r io.Reader) (Keys, error) {
	var k Keys
	if err := json.NewDecoder(io.LimitReader(r, maxKeys)).Decode(&k); err != nil {
		return Keys{}, fmt.Errorf("reading the keys: %w", err)
	}
	if len(k.HostSeed) != ed25519.SeedSize {
		return Keys{}, fmt.Errorf("reading the keys: the host key's seed has %d bytes, not %d", len(k.HostSeed), ed25519.SeedSize)
	}
	return k, nil
}

// HostKey returns the private host key.
func (k Keys) HostKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.HostSeed) }

// Public returns the public host key.
func (k Keys) Public() ed25519.PublicKey { return k.HostKey().Public().(ed25519.PublicKey) }
