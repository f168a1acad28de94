// Package instance keeps what the laptop knows of its own instances: a name, the
// host key that is baked into the image, and the addresses that follow from it.
// They are files in the user's state directory and nowhere else.
package instance

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2/maybe"
	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
)

// Store is the directory of all instances.
type Store struct{ Dir string }

// Instance is one image: whatever board its card is in.
type Instance struct {
	Name string
	Key  ed25519.PublicKey
	Dir  string
}

// ErrUnknown says that there is no instance of that name.
var ErrUnknown = errors.New("no instance of that name")

// Open returns the user's store: $XDG_STATE_HOME/rescue6, by default
// ~/.local/state/rescue6. It need not exist yet.
func Open() (Store, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Store{}, fmt.Errorf("finding the state directory: %w: set HOME or XDG_STATE_HOME", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return Store{Dir: filepath.Join(state, "rescue6")}, nil
}

// Create returns the instance of that name. Its host key is made the first time
// and kept from then on.
func (s Store) Create(name string) (Instance, error) {
	if err := ValidHostname(name); err != nil {
		return Instance{}, err
	}
	in, err := s.Get(name)
	if !errors.Is(err, ErrUnknown) {
		return in, err
	}
	dir := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Instance{}, fmt.Errorf("making the directory of %s: %w", name, err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Instance{}, fmt.Errorf("making a host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "rescue6 "+name)
	if err != nil {
		return Instance{}, fmt.Errorf("writing the host key: %w", err)
	}
	if err := maybe.WriteFile(filepath.Join(dir, "host_key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return Instance{}, fmt.Errorf("writing the host key: %w", err)
	}
	public := identity.AuthorizedKey(private.Public().(ed25519.PublicKey)) + " rescue6 " + name + "\n"
	if err := maybe.WriteFile(filepath.Join(dir, "host_key.pub"), []byte(public), 0o644); err != nil {
		return Instance{}, fmt.Errorf("writing the public host key: %w", err)
	}
	return s.Get(name)
}

// Get returns the instance of that name, or an error that is ErrUnknown.
func (s Store) Get(name string) (Instance, error) {
	if err := ValidHostname(name); err != nil {
		return Instance{}, err
	}
	in := Instance{Name: name, Dir: filepath.Join(s.Dir, name)}
	text, err := os.ReadFile(in.HostKeyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return Instance{}, fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	if err != nil {
		return Instance{}, fmt.Errorf("reading the host key of %s: %w", name, err)
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		return Instance{}, fmt.Errorf("host key %s cannot be read (%w): restore it, or delete it to make another for a new card", in.HostKeyFile(), err)
	}
	private, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return Instance{}, fmt.Errorf("host key %s is not Ed25519", in.HostKeyFile())
	}
	in.Key = private.Public().(ed25519.PublicKey)
	return in, nil
}

// List returns all instances, by name. One that cannot be read is left out and
// part of the error.
func (s Store) List() ([]Instance, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing instances: %w", err)
	}
	var all []Instance
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || ValidHostname(e.Name()) != nil {
			continue
		}
		in, err := s.Get(e.Name())
		switch {
		case err == nil:
			all = append(all, in)
		case !errors.Is(err, ErrUnknown):
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// HostKeyFile is the private host key, in OpenSSH format, mode 0600.
func (i Instance) HostKeyFile() string { return filepath.Join(i.Dir, "host_key") }

// Label is the address that the instance has on every link.
func (i Instance) Label() netip.Addr { return identity.LabelAddress(i.Key) }

// ValidHostname says what is wrong with a name that is to be a hostname: one
// label of letters, digits and hyphens, 1 to 63 bytes (RFC 1123 §2.1).
func ValidHostname(name string) error {
	bad := len(name) < 1 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-'
	for _, c := range []byte(name) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			bad = true
		}
	}
	if bad {
		return fmt.Errorf("%q is no hostname: use 1 to 63 letters, digits and hyphens, such as attic", name)
	}
	return nil
}
