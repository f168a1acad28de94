package instance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"rescue6/rescue/sshd"
)

// AuthorizedKeys returns the public keys that may log in: the content of the file
// at path or, without one, of all ~/.ssh/*.pub. A file in which no key can be read
// is an error that says how to make one.
func AuthorizedKeys(path string) ([]byte, error) {
	const fix = "ssh-keygen -t ed25519 makes one, --authorized-keys FILE names another"
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading authorized keys: %w: %s", err, fix)
		}
		// What would be ignored on the instance is better known now.
		keys, bad := sshd.ParseAuthorizedKeys(b)
		if len(bad) > 0 {
			return nil, fmt.Errorf("%s: %w: mend or remove that line", path, bad[0])
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("%s has no SSH public key: %s", path, fix)
		}
		return b, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("finding your SSH keys: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(home, ".ssh", "*.pub"))
	if err != nil {
		return nil, fmt.Errorf("finding your SSH keys: %w", err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading your SSH key: %w", err)
		}
		// A certificate or something else may have that name: it counts no more.
		key, _, _, _, err := ssh.ParseAuthorizedKey(b)
		if _, isCert := key.(*ssh.Certificate); err != nil || isCert {
			continue
		}
		all = append(append(all, bytes.TrimSpace(b)...), '\n')
	}
	if len(all) == 0 {
		return nil, errors.New("there is no SSH public key in ~/.ssh: " + fix)
	}
	return all, nil
}
