package sshd

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// AuthorizedKey is one line of an authorized_keys file (sshd(8), "AUTHORIZED_KEYS
// FILE FORMAT").
type AuthorizedKey struct {
	Key          ssh.PublicKey
	Comment      string
	Command      string // the only command that may run, if not empty
	NoPTY        bool
	NoForwarding bool // neither TCP nor unix sockets
}

// ParseAuthorizedKeys reads an authorized_keys file. A line that cannot be read,
// or has an option that is not understood and might have been a restriction, is
// left out and named in bad; the other lines count.
func ParseAuthorizedKeys(text []byte) (keys []AuthorizedKey, bad []error) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k, err := parseAuthorizedKey(line)
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, bad
}

func parseAuthorizedKey(line []byte) (AuthorizedKey, error) {
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return AuthorizedKey{}, fmt.Errorf("no public key in OpenSSH format")
	}
	k := AuthorizedKey{Key: key, Comment: comment}
	for _, o := range options {
		if err := k.option(o); err != nil {
			return AuthorizedKey{}, err
		}
	}
	return k, nil
}

// option applies one option, in the order of the line, as OpenSSH does.
func (k *AuthorizedKey) option(o string) error {
	name, value, hasValue := strings.Cut(o, "=")
	switch strings.ToLower(name) {
	case "restrict":
		k.NoPTY, k.NoForwarding = true, true
	case "no-pty":
		k.NoPTY = true
	case "pty":
		k.NoPTY = false
	case "no-port-forwarding":
		k.NoForwarding = true
	case "port-forwarding":
		k.NoForwarding = false
	case "no-agent-forwarding", "no-x11-forwarding", "no-user-rc", "agent-forwarding", "x11-forwarding", "user-rc":
		// None of these is served, with the option or without.
	case "command":
		c, err := strconv.Unquote(value)
		if !hasValue || err != nil || c == "" {
			return fmt.Errorf("option %s: want command=\"…\"", o)
		}
		k.Command = c
	default:
		return fmt.Errorf("option %q is not understood", name)
	}
	return nil
}
