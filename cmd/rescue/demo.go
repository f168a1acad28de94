//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rescue6/gokrazy"
)

// How long the demo and the tests wait at most. QEMU without KVM on a busy
// machine is ten times slower than on an idle one.
const (
	bootLimit     = 5 * time.Minute
	commandLimit  = 90 * time.Second
	announceLimit = 100 * time.Second // an announcement comes every 60 s ±25 %
)

func newDemoCommand() *cobra.Command {
	var o vmOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it in QEMU: a Raspberry Pi loses IPv4, is found, and is logged into",
		Long: `Show all of it in QEMU: a Raspberry Pi loses IPv4, is found, and is logged into.

Builds the image of an instance made for the occasion, boots it as a Raspberry
Pi 3B on a network of its own, beside a laptop and a DHCP server, and does what
the README says. It takes three to five minutes, needs no root where users may
make namespaces, and leaves nothing behind.

Exits 0 if everything worked, 1 at the first step that did not, 2 if a program is
not installed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.inLab(cmd, func(ctx context.Context, p plan, s *script) error {
				return demo(ctx, p, s)
			})
		},
	}
	o.machine = string(gokrazy.Pi)
	o.registerRepo(cmd)
	return cmd
}

// demo is the whole show, in the lab. The image has been built.
func demo(ctx context.Context, p plan, s *script) error {
	started := time.Now()
	s.step("Boot it in QEMU as a Raspberry Pi 3B, on a switch with a laptop and a DHCP server")
	w, err := bootWorld(ctx, p)
	if err != nil {
		return err
	}
	defer w.Close()
	s.world = w
	if err := w.startIPv4(); err != nil {
		return err
	}
	addr4, err := s.awaitLease()
	if err != nil {
		return err
	}

	s.step("IPv4 works")
	if _, err := s.run("ping -4 -c 2 " + addr4.String()); err != nil {
		return err
	}
	if err := s.awaitListener(); err != nil {
		return err
	}

	s.step("IPv4 dies: the DHCP server is killed, and the addresses go, on the laptop and on the Pi")
	if err := s.killIPv4(addr4); err != nil {
		return err
	}
	if _, err := s.runFailing("ping -4 -c 2 -W 2 " + addr4.String()); err != nil {
		return err
	}

	// Whatever is announced from now on says that IPv4 is dead.
	heard := listenForAnnouncement(w, announceLimit)

	s.step("Who is there?")
	if _, err := s.runWith("rescue find", w.hostname); err != nil {
		return err
	}

	s.step("Log in")
	for _, line := range []string{
		"rescue ssh " + w.hostname + " uptime",
		w.ssh(w.eui64(), "ip addr show dev eth0"),
		w.ssh(w.label(), "rescue status"),
	} {
		if _, err := s.run(line); err != nil {
			return err
		}
	}

	s.step("Log in while session processes are killed at random")
	killed, logins, err := s.killSessions(5, 10)
	if err != nil {
		return err
	}
	s.say("%d session processes killed, the warm spare among them; %d of %d logins worked", killed, logins, logins)

	s.step("What the Pi announces is signed by its host key")
	if err := s.showAnnouncement(heard); err != nil {
		return err
	}

	s.summary(time.Since(started))
	return nil
}

// awaitLease waits for the guest to come up and get an IPv4 address.
func (s *script) awaitLease() (addr netip.Addr, err error) {
	w := s.world
	done := s.progress("booting")
	defer done()
	err = w.await("a DHCP lease", bootLimit, func(context.Context) (ok bool, err error) {
		addr, ok, err = w.lease(w.mac())
		return ok, err
	})
	if err != nil {
		return addr, err
	}
	done()
	s.say("after %s dnsmasq leased %v to %s (%v)", s.sinceBoot(), addr, w.hostname, w.mac())
	return addr, nil
}

// awaitListener waits for SSH on both addresses.
func (s *script) awaitListener() error {
	for _, addr := range []netip.Addr{s.world.eui64(), s.world.label()} {
		if err := s.world.awaitBanner(addr, bootLimit); err != nil {
			return err
		}
	}
	return nil
}

// killIPv4 leaves no IPv4 address on the link.
func (s *script) killIPv4(addr4 netip.Addr) error {
	w := s.world
	if err := w.killDHCP(); err != nil {
		return err
	}
	s.say("dnsmasq: killed")
	// The client on the Pi would keep its address for ever. It is taken away as
	// an administrator does who mistypes: on the Pi itself.
	for _, line := range []string{
		"rescue ssh " + w.hostname + " ip addr del " + addr4.String() + "/24 dev eth0",
		"ip -4 addr flush dev eth0",
	} {
		if _, err := s.run(line); err != nil {
			return err
		}
	}
	return nil
}

// showAnnouncement prints one announcement, and lets OpenSSH judge the one that
// came with it.
func (s *script) showAnnouncement(heard func() (string, error)) error {
	if _, err := s.runWith("rescue listen --count 1 --timeout 90s", "yours"); err != nil {
		return err
	}
	line, err := heard()
	if err != nil {
		return err
	}
	_, err = s.runWith(line, "Good")
	return err
}

func (s *script) summary(took time.Duration) {
	w := s.world
	fmt.Fprintf(s.out, "\nDone in %s. With no IPv4 address on the link, %s was found and logged into:\n\n", took.Round(time.Second), w.hostname)
	fmt.Fprintf(s.out, "   rescue ssh %s\n   ssh root@%v%%eth0   (from its MAC)\n   ssh root@%v%%eth0   (label: from its host key)\n",
		w.hostname, w.eui64(), w.label())
}

// script prints numbered steps and the commands of each, as they are run on the
// laptop, with what they print.
type script struct {
	out   io.Writer
	world *world
	steps int
	begun time.Time // of the boot
}

// step begins the next step.
func (s *script) step(title string) {
	s.steps++
	s.begun = time.Now()
	fmt.Fprintf(s.out, "\n%d. %s\n", s.steps, title)
}

// say prints a line that is not the output of a command.
func (s *script) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   "+format+"\n", args...)
}

func (s *script) sinceBoot() time.Duration { return time.Since(s.begun).Round(time.Second) }

// run shows a command line and what it prints. The error names it.
func (s *script) run(line string) (output string, err error) {
	output, err = s.show(line)
	if err != nil {
		return output, s.world.explain(fmt.Errorf("step %d: '%s': %w", s.steps, line, err))
	}
	return output, nil
}

// runFailing is run for a command that is to fail.
func (s *script) runFailing(line string) (string, error) {
	output, err := s.show(line)
	if err == nil {
		return output, fmt.Errorf("step %d: '%s' worked, and should not", s.steps, line)
	}
	return output, context.Cause(s.world.ctx)
}

// runWith is run for a command that has to print something.
func (s *script) runWith(line, want string) (string, error) {
	output, err := s.run(line)
	if err == nil && !strings.Contains(output, want) {
		err = fmt.Errorf("step %d: '%s' did not print %q", s.steps, line, want)
	}
	return output, err
}

func (s *script) show(line string) (string, error) {
	ctx, cancel := context.WithTimeout(s.world.ctx, commandLimit)
	defer cancel()
	fmt.Fprintf(s.out, "   $ %s\n", line)
	var all bytes.Buffer
	err := s.world.run(ctx, line, io.MultiWriter(&all, &indenter{out: s.out}))
	if ctx.Err() != nil && s.world.ctx.Err() == nil {
		err = fmt.Errorf("no end within %v", commandLimit)
	}
	return all.String(), err
}

// progress shows on a terminal, and only there, that something is being waited
// for; the returned function wipes it out.
func (s *script) progress(what string) (done func()) {
	f, ok := s.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				fmt.Fprint(f, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(f, "\r   %s, %s ", what, s.sinceBoot())
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-stopped })
}

// indenter indents each line by three spaces.
type indenter struct {
	out    io.Writer
	inLine bool
}

func (w *indenter) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for line := range bytes.Lines(p) {
		if !w.inLine && len(bytes.TrimSpace(line)) > 0 {
			b.WriteString("   ")
		}
		b.Write(line)
		w.inLine = line[len(line)-1] != '\n'
	}
	if _, err := w.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
