package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rescue6/gokrazy"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
)

// webSocket is where gokrazy's web interface and update API listen on the
// instance.
const webSocket = "/run/gokrazy-http.sock"

// updateOptions are the flags of update.
type updateOptions struct {
	repo, machine, passwordFile string
	direct                      bool
}

func newUpdateCommand() *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "update NAME [ADDRESS%IF]",
		Short: "Build an instance's image anew and send it to the running instance: gok update, over link-local",
		Long: `Build an instance's image anew and send it to the running instance.

This is 'gok update' over the link-local path: the instance is found as 'rescue
ssh' finds it, unless you say where it is. It goes through SSH, so that neither a
password nor the image crosses the link in clear.

There is NO WAY BACK yet: an image that does not come up leaves the instance
unreachable until its card is written anew.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("which instance? rescue update NAME [ADDRESS%%IF]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) == 2 {
				to = args[1]
			}
			return update(cmd, o, args[0], to)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.repo, "directory", "C", ".", "`checkout` of rescue6 to build from")
	f.StringVar(&o.machine, "machine", string(gokrazy.Pi), "pi, or vm for QEMU on a PC")
	f.StringVar(&o.passwordFile, "password-file", "", "`file` with the password that the new image has for gokrazy's own web interface")
	f.BoolVar(&o.direct, "direct", false, "send it straight to gokrazy's web interface, in clear; the running image must have been built with the same password")
	return cmd
}

func update(cmd *cobra.Command, o updateOptions, name, to string) error {
	ctx := cmd.Context()
	var addr netip.Addr
	var err error
	if to != "" {
		addr, err = netip.ParseAddr(to)
		if err != nil || !addr.Is6() || !addr.IsLinkLocalUnicast() || addr.Zone() == "" {
			return usagef("%q is no link-local address with its interface: use one such as fe80::1%%eth0, 'rescue find' shows it", to)
		}
	}
	img := gokrazy.Image{Repo: o.repo, Hostname: name, Machine: gokrazy.Machine(o.machine)}
	if img.Machine != gokrazy.Pi && img.Machine != gokrazy.VM {
		return usagef("--machine %s: it is pi or vm", o.machine)
	}
	if img.Password, err = readPassword(o.passwordFile); err != nil {
		return usagef("--password-file: %w", err)
	}
	if o.direct && img.Password == "" {
		return usagef("--direct needs --password-file: without a password gokrazy's web interface is not on the network")
	}
	store, err := instance.Open()
	if err != nil {
		return usagef("%w", err)
	}
	in, err := store.Get(name)
	if errors.Is(err, instance.ErrUnknown) {
		return usagef("%w: 'rescue image %s' makes it", err, name)
	}
	if err != nil {
		return usagef("%w", err)
	}
	img.HostKey, img.AuthorizedKeys = in.HostKeyFile(), filepath.Join(in.Dir, "authorized_keys")
	if _, err := os.Stat(img.AuthorizedKeys); errors.Is(err, fs.ErrNotExist) {
		return usagef("nobody is authorized to log into %s: 'rescue image %s' keeps the keys", name, name)
	}
	if to == "" {
		links, err := usableLinks(nil)
		if err != nil {
			return err
		}
		found, err := locate(cmd, target{text: name, instance: &in, addrs: []netip.Addr{in.Label()}}, links, []instance.Instance{in})
		if err != nil {
			return err
		}
		addr = found.Addr.Addr()
	}

	host := gokrazy.LinkLocal(addr)
	if !o.direct {
		t, err := openTunnel(ctx, in, addr)
		if err != nil {
			return failf("%w", err)
		}
		defer t.close()
		host = gokrazy.Loopback(t.port)
	}
	return asFailure(gokrazy.Update(ctx, img, host, cmd.ErrOrStderr()))
}

// tunnel is an ssh that forwards a port of this machine to the instance's web
// socket, and is started again whenever it ends: the update ends with a reboot,
// and gok asks on until the instance is back.
type tunnel struct {
	port  int
	close func()
}

// openTunnel returns a tunnel that works.
func openTunnel(ctx context.Context, in instance.Instance, addr netip.Addr) (*tunnel, error) {
	dir, err := os.MkdirTemp("", "rescue6-update-")
	if err != nil {
		return nil, fmt.Errorf("preparing the tunnel: %w", err)
	}
	port, err := freePort()
	if err == nil {
		pin := []byte(in.Name + " " + identity.AuthorizedKey(in.Key) + "\n")
		err = os.WriteFile(filepath.Join(dir, "known_hosts"), pin, 0o600)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("preparing the tunnel: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var lastErr error
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			ssh := exec.CommandContext(ctx, "ssh", "-N", "-n",
				"-o", "BatchMode=yes",
				"-o", "ExitOnForwardFailure=yes",
				"-o", "ConnectTimeout=5",
				// A peer that reboots with kexec says no goodbye.
				"-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3",
				"-o", "HostKeyAlias="+in.Name,
				"-o", "UserKnownHostsFile="+filepath.Join(dir, "known_hosts"),
				"-o", "StrictHostKeyChecking=yes",
				"-L", fmt.Sprintf("127.0.0.1:%d:%s", port, webSocket),
				"root@"+addr.String())
			out, err := ssh.CombinedOutput()
			lastErr = fmt.Errorf("%w: %s", err, out)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	t := &tunnel{port: port, close: func() { cancel(); <-ended; os.RemoveAll(dir) }}
	if err := awaitPort(ctx, port, 30*time.Second); err != nil {
		t.close()
		return nil, fmt.Errorf("opening a tunnel to %s at %s: %w (ssh: %v)", in.Name, addr, err, lastErr)
	}
	return t, nil
}

// freePort returns a TCP port of the loopback that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// awaitPort waits until somebody accepts connections on a port of the loopback.
func awaitPort(ctx context.Context, port int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// asFailure gives an error that has no exit status the one of things that did
// not work; a program that is not installed is for the user to mend.
func asFailure(err error) error {
	var status *exitError
	var missing *gokrazy.MissingTool
	switch {
	case err == nil, errors.As(err, &status):
		return err
	case errors.As(err, &missing):
		return usagef("%w", err)
	}
	return failf("%w", err)
}
