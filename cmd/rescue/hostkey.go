package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
)

// newHostKeyCommand is what OpenSSH runs as its KnownHostsCommand: it prints the
// only host key that may be accepted, as a line of known_hosts.
func newHostKeyCommand() *cobra.Command {
	var label, key string
	cmd := &cobra.Command{
		Use:    "hostkey NAME | hostkey --label ADDRESS --key KEY",
		Short:  "Print the host key that ssh may accept (for KnownHostsCommand)",
		Hidden: true,
		Args:   cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if label != "" && len(args) == 0 {
				line, err := certify(label, key)
				if err != nil || line == "" {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
				return nil
			}
			if len(args) != 1 || label != "" {
				return usagef("give a NAME, or --label and --key")
			}
			store, err := instance.Open()
			if err != nil {
				return usagef("%w", err)
			}
			in, err := store.Get(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), alias(in.Name), identity.AuthorizedKey(in.Key))
			return nil
		},
	}
	cmd.Flags().StringVar(&label, "label", "", "a stranger's label `address`")
	cmd.Flags().StringVar(&key, "key", "", "the `key` that the server proves to own, in base64")
	return cmd
}

// alias is the name under which OpenSSH checks the key of an instance.
func alias(name string) string { return "rescue6-" + name }

// labelAlias is the same for a label address.
func labelAlias(a netip.Addr) string {
	return "rescue6-label-" + strings.ReplaceAll(a.String(), ":", "-")
}

// certify returns the line that accepts a key, if the label address was made from
// it: such an address certifies itself.
func certify(label, key string) (string, error) {
	a, err := netip.ParseAddr(label)
	if err != nil {
		return "", usagef("--label: %w", err)
	}
	if key == "" || key == "NONE" {
		return "", nil // ssh asks once before it knows the key
	}
	pub, err := parseBlob(key)
	if err != nil {
		return "", nil // of another type: not ours, and no reason to stop ssh
	}
	if identity.LabelAddress(pub) != a.WithZone("") {
		return "", nil
	}
	return labelAlias(a) + " " + identity.AuthorizedKey(pub), nil
}

// parseBlob reads an Ed25519 key in base64, as ssh gives it.
func parseBlob(key string) (ed25519.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(identity.KeyType + " " + key))
	if err != nil {
		return nil, err
	}
	c, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return nil, errors.New("no plain key")
	}
	pub, ok := c.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not Ed25519")
	}
	return pub, nil
}
