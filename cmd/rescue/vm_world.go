//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rescue6/gokrazy"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
)

// world is what demo, vm and the boot tests share: one network, and on it the
// guest that runs the image.
type world struct {
	plan
	*network
	guest   *gokrazy.Guest
	inst    instance.Instance
	environ []string // of commands on the laptop

	// ctx ends with the guest, and context.Cause says why.
	ctx   context.Context
	close []func()
}

// The guest's MAC addresses begin as those of the Raspberry Pi Foundation and
// of QEMU do.
var guestMAC = map[gokrazy.Machine]net.HardwareAddr{
	gokrazy.Pi: {0xb8, 0x27, 0xeb, 0x36, 0x36, 0x36},
	gokrazy.VM: {0x52, 0x54, 0x00, 0x36, 0x36, 0x36},
}

func (w *world) mac() net.HardwareAddr { return guestMAC[w.machine] }

// eui64 and label are the guest's two addresses.
func (w *world) eui64() netip.Addr { return identity.EUI64(w.mac()) }
func (w *world) label() netip.Addr { return identity.LabelAddress(w.inst.Key) }

// bootWorld makes the world, in the lab of this process, and starts the guest.
// Close ends what it started, in case of an error too.
func bootWorld(ctx context.Context, p plan) (_ *world, err error) {
	w := &world{plan: p}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if err := settleLab(); err != nil {
		return nil, err
	}
	store := instance.Store{Dir: p.stateDir()}
	if w.inst, err = store.Get(p.hostname); err != nil {
		return nil, err
	}
	pin := p.hostname + " " + identity.AuthorizedKey(w.inst.Key) + "\n"
	if err := os.WriteFile(filepath.Join(p.dir, "known_hosts"), []byte(pin), 0o600); err != nil {
		return nil, fmt.Errorf("pinning the host key: %w", err)
	}
	if w.network, err = newNetwork(ctx, p.dir); err != nil {
		return nil, err
	}
	if w.environ, err = w.startAgent(ctx); err != nil {
		return nil, err
	}
	console, err := os.Create(p.consoleLog())
	if err != nil {
		return nil, fmt.Errorf("making a file for the console: %w", err)
	}
	w.close = append(w.close, func() { console.Close() })
	w.guest, err = gokrazy.Boot(ctx, gokrazy.VMConfig{
		Repo: p.repo, Image: p.image(), Machine: p.machine,
		Tap: labTap, MAC: w.mac(), Console: console, Start: w.bridge.Start,
		Clock: p.clock, MayReset: p.mayReset,
	})
	if err != nil {
		return nil, err
	}
	w.close = append(w.close, func() { w.guest.Close() })

	var cancel context.CancelCauseFunc
	w.ctx, cancel = context.WithCancelCause(ctx)
	w.close = append(w.close, func() { cancel(nil) })
	go func() {
		select {
		case <-w.guest.Done():
			cancel(w.guest.Err())
		case <-w.ctx.Done():
		}
	}()
	return w, nil
}

// Close ends the guest and what else runs. The namespaces end with the process.
func (w *world) Close() {
	for i := len(w.close) - 1; i >= 0; i-- {
		w.close[i]()
	}
	w.close = nil
}

// startAgent starts an ssh-agent that holds the one key that may log in, so that
// ssh needs no file of the user's, and returns the environment with it.
func (w *world) startAgent(ctx context.Context) ([]string, error) {
	socket := filepath.Join(w.dir, "agent")
	env := append(w.plan.env(), "SSH_AUTH_SOCK="+socket)
	_ = os.Remove(socket) // of a world before this one
	agent := exec.CommandContext(ctx, "ssh-agent", "-D", "-a", socket)
	if err := w.laptop.Start(agent); err != nil {
		return nil, err
	}
	w.close = append(w.close, func() { agent.Process.Kill(); agent.Wait() })
	err := w.laptop.WaitFor(ctx, "ssh-agent", func() (bool, error) {
		_, err := os.Stat(socket)
		return err == nil, nil
	})
	if err != nil {
		return nil, err
	}
	add := exec.CommandContext(ctx, "ssh-add", "-q", w.userKey())
	add.Env = env
	if out, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("giving the key to ssh-agent: %w: %s", err, out)
	}
	return env, nil
}

// command prepares a command line for the laptop's shell, in the plan's directory.
func (w *world) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = w.dir, w.environ
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a command line on the laptop and returns what it printed, standard
// error included. The error is that of os/exec.
func (w *world) run(ctx context.Context, line string, out io.Writer) error {
	cmd := w.command(ctx, line)
	cmd.Stdout, cmd.Stderr = out, out
	if err := w.laptop.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// output is run for the program's own needs.
func (w *world) output(ctx context.Context, line string) (string, error) {
	var b strings.Builder
	err := w.run(ctx, line, &b)
	if err != nil {
		return "", w.explain(fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(b.String())))
	}
	return b.String(), nil
}

// pollEvery is how often await asks: each question costs processes, and the
// guest's emulation wants the CPU.
const pollEvery = 250 * time.Millisecond

// await asks until ok returns true, for at most limit. An error of ok ends it.
func (w *world) await(what string, limit time.Duration, ok func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		done, err := ok(ctx)
		switch {
		case done:
			return nil
		case ctx.Err() == nil && err != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return w.explain(fmt.Errorf("%s did not come within %v; the guest's console ended with:\n%s",
				what, limit, w.guest.ConsoleTail(15)))
		case <-tick.C:
		}
	}
}

// explain prefers the end of the guest to what followed from it.
func (w *world) explain(err error) error {
	if w.guest == nil || w.guest.Err() == nil {
		return err
	}
	return w.guest.Err()
}

// awaitBanner waits until the guest's SSH listener says its first line, on addr.
func (w *world) awaitBanner(addr netip.Addr, limit time.Duration) error {
	return w.await("an SSH banner from "+addr.String(), limit, func(ctx context.Context) (bool, error) {
		// Without an answer ssh-keyscan fails, with one it prints the key.
		out, _ := w.laptop.Run(ctx, "ssh-keyscan", "-T", "3", "-t", "ed25519", addr.String()+"%eth0")
		return strings.Contains(string(out), identity.AuthorizedKey(w.inst.Key)), nil
	})
}

// ssh returns the command line of OpenSSH to one of the guest's addresses, with
// the instance's key pinned.
func (w *world) ssh(addr netip.Addr, command string) string {
	return fmt.Sprintf("ssh -o UserKnownHostsFile=known_hosts -o HostKeyAlias=%s root@%s%%eth0 %s", w.hostname, addr, command)
}
