//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// labEnv tells a copy of this program that it is the first process of a lab, and
// names the directory for the lab's files.
const labEnv = "RESCUE6_LAB"

// labDir returns the lab's directory if this process was started by enterLab.
func labDir() (dir string, inside bool) {
	dir = os.Getenv(labEnv)
	return dir, dir != ""
}

// labCommand is a run of this program in a world of its own.
type labCommand struct {
	args           []string // of this same program
	dir            string   // for the lab's files; the caller removes it
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run runs a copy of this program as the first process of new PID, mount and
// network namespaces, and of a new user namespace if the caller is not root.
// Everything that the copy starts, and every interface and namespace that it
// makes, ends with it, even when it is killed; and it is killed when this
// process is. run returns its exit status as an *exitError.
func (l labCommand) run(ctx context.Context) error {
	// The kernel sends the parent-death signal when the thread that started the
	// child ends, so that thread has to stay until the child is done.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, "/proc/self/exe", l.args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), labEnv+"="+l.dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.stdin, l.stdout, l.stderr
	cmd.SysProcAttr = labAttributes()
	// It is asked first, so that it can say what it was doing.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second

	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return failf("interrupted")
	case errors.As(err, &exit) && exit.Exited():
		return &exitError{status: exit.ExitCode()}
	case errors.As(err, &exit):
		return failf("the lab was ended: %w", err)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOSPC):
		return &exitError{exitNotPermitted, fmt.Errorf("making namespaces for the lab: %w: this system does not let users make them, run as root", err)}
	}
	return failf("starting the lab: %w", err)
}

// labAttributes asks for the lab's namespaces. A user who is not root becomes
// the root of a user namespace, and of nothing else.
func labAttributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// settleLab makes the new namespaces usable: a /proc that shows the lab's
// processes, and no SSH configuration of the user's.
func settleLab() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the lab's mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc for the lab: %w", err)
	}
	// OpenSSH refuses system files that seem to belong to somebody else, as all
	// do in a user namespace; and the lab shall neither use nor see the user's
	// keys and hosts. An empty directory over both is seen by the lab only.
	hide := []string{"/etc/ssh/ssh_config.d"}
	if u, err := user.Current(); err == nil {
		hide = append(hide, filepath.Join(u.HomeDir, ".ssh"))
	}
	for _, dir := range hide {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size=1m"); err != nil {
			return fmt.Errorf("hiding %s from the lab: %w", dir, err)
		}
	}
	return nil
}
