package main

import (
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
	"rescue6/rescue/sshd"
)

// keys reads the two files, checks them, and writes them to stdout as rescued
// keeps them. Bad lines of authorized_keys are named on stderr and skipped, as
// long as one good line is left.
func keys(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("keys", flag.ContinueOnError)
	f.SetOutput(stderr)
	hostKey := f.String("host_key", "", "`file`")
	authorized := f.String("authorized_keys", "", "`file`")
	if err := f.Parse(args); err != nil {
		return exitUsage
	}
	k, err := readKeys(*hostKey, *authorized, stderr)
	if err == nil {
		err = k.Write(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	return 0
}

func readKeys(hostKey, authorized string, stderr io.Writer) (identity.Keys, error) {
	seed, err := readHostKey(hostKey)
	if err != nil {
		return identity.Keys{}, err
	}
	text, err := readFile(authorized, "authorized keys", "-authorized_keys FILE names a file with one public key a line")
	if err != nil {
		return identity.Keys{}, err
	}
	good, bad := sshd.ParseAuthorizedKeys(text)
	if len(good) == 0 {
		return identity.Keys{}, fmt.Errorf("authorized keys %s: no line that can be used%s: put a public key there, such as ~/.ssh/id_ed25519.pub", authorized, because(bad))
	}
	for _, err := range bad {
		fmt.Fprintf(stderr, "authorized keys %s: skipping %v\n", authorized, err)
	}
	return identity.Keys{HostSeed: seed, AuthorizedKeys: text}, nil
}

func because(bad []error) string {
	if len(bad) == 0 {
		return ""
	}
	return " (" + bad[0].Error() + ")"
}

func readHostKey(path string) ([]byte, error) {
	const fix = "ssh-keygen -q -t ed25519 -N '' -f FILE makes one, -host_key FILE names it"
	text, err := readFile(path, "host key", fix)
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("host key %s has a passphrase, which nobody can type at boot: ssh-keygen -p -N '' -f %s removes it", path, path)
	case err != nil:
		return nil, fmt.Errorf("host key %s is no private key in OpenSSH format (%w): %s", path, err, fix)
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("host key %s is a %T, not Ed25519: %s", path, raw, fix)
	}
	return key.Seed(), nil
}

// readFile reads a file of at most 1 MB.
func readFile(path, what, fix string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s %s does not exist: %s", what, path, fix)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: it must be readable by the user that runs rescued", what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}
