//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rescue6/gokrazy"
)

// plan says what is built outside the lab and booted inside, and where its files
// are. Nothing of the user's is read or touched: instance and keys are made for
// the occasion and go with the directory.
type plan struct {
	machine  gokrazy.Machine
	hostname string
	repo     string // root of the rescue6 sources
	dir      string // made by the caller, who removes it
	rescue   string // path of the rescue program; if empty, this one
	password string // for gokrazy's own web interface; none: it is not on the network

	clock    time.Time // see gokrazy.VMConfig
	mayReset bool
}

func (p plan) image() string      { return filepath.Join(p.dir, p.hostname+".img") }
func (p plan) userKey() string    { return filepath.Join(p.dir, "id_ed25519") }
func (p plan) xdgState() string   { return filepath.Join(p.dir, "state") }
func (p plan) stateDir() string   { return filepath.Join(p.xdgState(), "rescue6") }
func (p plan) bin() string        { return filepath.Join(p.dir, "bin") }
func (p plan) consoleLog() string { return filepath.Join(p.dir, "console.log") }

// missingTools returns a one-line error that names every package to install, for
// the programs that this machine's lab cannot do without.
func missingTools(m gokrazy.Machine) error {
	tools := [][2]string{
		{"ip", "iproute2"}, {"ping", "iputils-ping"}, {"dnsmasq", "dnsmasq-base"},
		{"ssh", "openssh-client"}, {"ssh-agent", "openssh-client"}, {"ssh-keyscan", "openssh-client"},
		{"mcopy", "mtools"}, {"mkfs.ext4", "e2fsprogs"},
	}
	program, debian := gokrazy.Emulator(m)
	tools = append(tools, [2]string{program, debian})
	var missing, packages []string
	for _, t := range tools {
		if _, err := gokrazy.LookTool(t[0], t[1]); err != nil {
			missing = append(missing, t[0])
			if !strings.Contains(" "+strings.Join(packages, " ")+" ", " "+t[1]+" ") {
				packages = append(packages, t[1])
			}
		}
	}
	if missing == nil {
		return nil
	}
	return usagef("not installed: %s: apt install %s", strings.Join(missing, ", "), strings.Join(packages, " "))
}

// prepare makes the laptop's programs, of which there is one, and the key with
// which it logs in.
func (p plan) prepare(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if p.rescue != "" {
		self = p.rescue
	}
	if err := os.Mkdir(p.bin(), 0o700); err != nil {
		return fmt.Errorf("preparing the laptop: %w", err)
	}
	if err := os.Symlink(self, filepath.Join(p.bin(), "rescue")); err != nil {
		return fmt.Errorf("preparing the laptop: %w", err)
	}
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f", p.userKey()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making a key for the laptop: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// env is the environment of the laptop's commands: rescue is on the PATH, and
// knows the plan's instance instead of the user's.
func (p plan) env() []string {
	return append(os.Environ(),
		"PATH="+p.bin()+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"XDG_STATE_HOME="+p.xdgState(),
		"LAB="+p.dir,
		labEnv+"=")
}

// build builds the image, as a user does. It is done outside the lab, where Go's
// modules can be downloaded.
func (p plan) build(ctx context.Context, out io.Writer) error {
	line := fmt.Sprintf("rescue image %s --authorized-keys $LAB/id_ed25519.pub --output $LAB/%s.img", p.hostname, p.hostname)
	if p.machine != gokrazy.Pi {
		line += " --machine " + string(p.machine)
	}
	if p.password != "" {
		if err := os.WriteFile(filepath.Join(p.dir, "password"), []byte(p.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing the password: %w", err)
		}
		line += " --password-file $LAB/password"
	}
	fmt.Fprintf(out, "   $ %s\n", line)
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = p.repo, p.env()
	w := &indenter{out: out}
	cmd.Stdout, cmd.Stderr = w, w
	// The shell is asked, and rescue cleans up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the image: %w", err)
	}
	return nil
}
