//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rescue6/gokrazy"
)

// labHostname is the name of the instance that demo and vm make for themselves.
const labHostname = "attic"

// vmOptions are the flags of vm and demo.
type vmOptions struct {
	machine string
	repo    string
}

func newVMCommand() *cobra.Command {
	var o vmOptions
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Boot an image in QEMU and give you the prompt of a laptop on its link",
		Long: `Boot an image in QEMU and give you the prompt of a laptop on its link.

Builds the image of an instance made for the occasion, boots it on a network of
its own, beside a laptop and a DHCP server, and starts a shell on the laptop. All
of it ends with that shell.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.inLab(cmd, laptopPrompt)
		},
	}
	cmd.Flags().StringVar(&o.machine, "machine", string(gokrazy.Pi), "`pi` for a Raspberry Pi 3B, or vm for a faster PC")
	o.registerRepo(cmd)
	return cmd
}

func (o *vmOptions) registerRepo(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.repo, "directory", "C", ".", "`checkout` of rescue6 to build from")
}

// inLab makes the plan, builds the image, and calls body in a lab, which is a
// copy of this process, started with the same arguments.
func (o *vmOptions) inLab(cmd *cobra.Command, body func(context.Context, plan, *script) error) error {
	p := plan{machine: gokrazy.Machine(o.machine), hostname: labHostname, repo: o.repo}
	s := &script{out: cmd.OutOrStdout()}
	ctx := cmd.Context()
	if dir, inside := labDir(); inside {
		p.dir, s.steps = dir, 1
		err := body(ctx, p, s)
		if ctx.Err() != nil {
			return &exitError{status: exitNothing} // the first process says why
		}
		return asFailure(err)
	}

	if err := missingTools(p.machine); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rescue6-")
	if err != nil {
		return failf("making a directory for the lab: %w", err)
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	if err := p.prepare(ctx); err != nil {
		return asFailure(err)
	}
	s.step(fmt.Sprintf("Build the image of an instance, %q, with a host key and a login key made for this", p.hostname))
	if err := p.build(ctx, s.out); err != nil {
		return asFailure(err)
	}
	return labCommand{
		args: os.Args[1:], dir: dir,
		stdin: os.Stdin, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr(),
	}.run(ctx)
}

// laptopPrompt boots the guest and leaves the user at the laptop's prompt.
func laptopPrompt(ctx context.Context, p plan, s *script) error {
	s.step("Boot it in QEMU, on a switch with a laptop and a DHCP server")
	w, err := bootWorld(ctx, p)
	if err != nil {
		return err
	}
	defer w.Close()
	s.world = w
	if err := w.startIPv4(); err != nil {
		return err
	}
	if _, err := s.awaitLease(); err != nil {
		return err
	}
	if err := s.awaitListener(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, `
You are on the laptop. Try:
   rescue find
   rescue ssh %[1]s
   %[2]s   (address from its MAC)
   %[3]s   (label: from its host key)
   less %[4]s   (what %[1]s prints on its serial port)
'exit' ends the laptop, %[1]s and the network between them.

`, w.hostname, w.ssh(w.eui64(), ""), w.ssh(w.label(), ""), "console.log")
	return w.shell()
}

// shell runs an interactive shell on the laptop until it ends, however that is.
func (w *world) shell() error {
	name, args := "sh", []string{"-i"}
	if path, err := exec.LookPath("bash"); err == nil {
		name, args = path, []string{"--noprofile", "--norc", "-i"}
	}
	cmd := exec.CommandContext(w.ctx, name, args...)
	cmd.Dir, cmd.Env = w.dir, append(w.environ, "PS1=laptop$ ", "ENV=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if term.IsTerminal(int(os.Stdin.Fd())) {
		// The shell gets the terminal, so that Ctrl-C is its own affair. In
		// its PID namespace it could not ask who has it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: int(os.Stdin.Fd())}
	}
	if err := w.laptop.Start(cmd); err != nil {
		return err
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	return w.guest.Err()
}
