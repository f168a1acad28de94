package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2/maybe"
	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rescue6/gokrazy"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
)

// imageOptions are the flags of rescue image.
type imageOptions struct {
	repo, authorized, output, size, machine, passwordFile string
	asJSON                                                bool
}

func newImageCommand() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:   "image [NAME]",
		Short: "Build the SD image of one instance",
		Long: `Build the SD image of one instance. NAME is its hostname (default: rescue6).

Your SSH public keys are baked in, and so is a host key, which is made the first
time and kept in ~/.local/state/rescue6. The label address follows from it: it is
known now and does not change when the card moves to another board.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "rescue6"
			if len(args) == 1 {
				name = args[0]
			}
			return buildImage(cmd, name, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.repo, "directory", "C", ".", "`checkout` of rescue6 to build from")
	f.StringVar(&o.authorized, "authorized-keys", "", "`file` with the public keys that may log in (default: all of ~/.ssh/*.pub)")
	f.StringVarP(&o.output, "output", "o", "", "`file` to write (default: NAME.img)")
	f.StringVar(&o.size, "size", "2GiB", "`size` of the card, or less: the rest of it stays unused")
	f.StringVar(&o.machine, "machine", string(gokrazy.Pi), "pi, or vm for QEMU on a PC")
	f.StringVar(&o.passwordFile, "password-file", "", "`file` with a password for gokrazy's own web interface on the network (default: only reachable through SSH)")
	f.BoolVar(&o.asJSON, "json", false, "print the result as one JSON object")
	return cmd
}

func buildImage(cmd *cobra.Command, name string, o imageOptions) error {
	img := gokrazy.Image{Repo: o.repo, Hostname: name, Machine: gokrazy.Machine(o.machine), Output: o.output}
	if img.Output == "" {
		img.Output = name + ".img"
	}
	if img.Machine != gokrazy.Pi && img.Machine != gokrazy.VM {
		return usagef("--machine %s: it is pi or vm", o.machine)
	}
	var err error
	if img.Size, err = parseSize(o.size); err != nil {
		return usagef("--size: %w", err)
	}
	if err := instance.ValidHostname(name); err != nil {
		return usagef("%w", err)
	}
	if img.Password, err = readPassword(o.passwordFile); err != nil {
		return usagef("--password-file: %w", err)
	}
	keys, err := instance.AuthorizedKeys(o.authorized)
	if err != nil {
		return usagef("%w", err)
	}
	store, err := instance.Open()
	if err != nil {
		return usagef("%w", err)
	}
	in, err := store.Create(name)
	if err != nil {
		return usagef("%w", err)
	}
	img.HostKey, img.AuthorizedKeys = in.HostKeyFile(), filepath.Join(in.Dir, "authorized_keys")
	if err := maybe.WriteFile(img.AuthorizedKeys, keys, 0o600); err != nil {
		return usagef("keeping the authorized keys: %w", err)
	}
	if err := gokrazy.Build(cmd.Context(), img, cmd.ErrOrStderr()); err != nil {
		return usagef("%w", err)
	}
	return showImage(cmd, in, img, o.asJSON)
}

// showImage says what has to be known about the new image.
func showImage(cmd *cobra.Command, in instance.Instance, img gokrazy.Image, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]any{
			"name": in.Name, "label_address": in.Label(), "host_key": identity.Fingerprint(in.Key),
			"image": img.Output, "machine": img.Machine, "size": img.Size,
		})
	}
	fmt.Fprintf(out, "name           %s\nlabel address  %s\nhost key       %s\nimage          %s\n\n",
		in.Name, in.Label(), identity.Fingerprint(in.Key), img.Output)
	fmt.Fprintf(out, "Write it to a card with Raspberry Pi Imager (\"Use custom\"), or with\n  sudo dd if=%s of=/dev/DISK bs=4M conv=fsync status=progress   # DISK: see lsblk; all on it is lost\nThen: rescue ssh %s\n",
		img.Output, in.Name)
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(out)
		qrterminal.GenerateHalfBlock(in.Label().String(), qrterminal.L, out)
	}
	return nil
}

// parseSize reads a number of bytes, with MiB, GiB, MB or GB behind it.
func parseSize(s string) (int64, error) {
	for unit, factor := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30, "MB": 1e6, "GB": 1e9} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			f, err := strconv.ParseFloat(n, 64)
			if err != nil || f <= 0 || f > 1e6 {
				break
			}
			return int64(f*float64(factor)) &^ (1<<20 - 1), nil
		}
	}
	return 0, fmt.Errorf("%q is no size: use one such as 2GiB or 8GB", s)
}

// readPassword reads a password from a file, so that no process has it among its
// arguments. Without a file there is none.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s does not exist", path)
	}
	if err != nil {
		return "", err
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" || strings.ContainsAny(p, "\r\n") {
		return "", fmt.Errorf("%s must hold one line, the password", path)
	}
	return p, nil
}
