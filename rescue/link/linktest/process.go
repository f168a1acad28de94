package linktest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Start starts a command inside the namespace, as cmd.Start does; the caller
// waits for it. The command is killed when this process ends or the namespace
// is closed, unless cmd.SysProcAttr asks for another Pdeathsig. Daemons that it
// leaves behind are ended by Close only, so let servers run in the foreground.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := n.onThread(cmd.Start); err != nil {
		return fmt.Errorf("starting %s in %s: %w", filepath.Base(cmd.Path), n.name, err)
	}
	return nil
}

// Run runs a command inside the namespace, until ctx ends at the latest, and
// returns what it wrote to standard output. The error of a command that failed
// has its standard error in it.
func (n *Namespace) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // for those who inherited the pipes
	if err := n.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return stdout.Bytes(), fmt.Errorf("running %s in %s: %w: %s",
			strings.Join(cmd.Args, " "), n.name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// killAll kills the processes inside the namespace, except this one, until there
// are none. Children of commands are found too.
func (n *Namespace) killAll() error {
	self, err := n.ns.Stat()
	if err != nil {
		return fmt.Errorf("looking for processes in %s: %w", n.name, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids := processesIn(self)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("closing namespace %s: processes %v do not end", n.name, pids)
		}
		time.Sleep(time.Millisecond) // the kernel tells nobody but the parent
	}
}

// processesIn lists the processes in a namespace. Zombies are not among them:
// they have left it.
func processesIn(ns os.FileInfo) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		fi, err := os.Stat(filepath.Join(dir, "ns/net"))
		if err == nil && os.SameFile(fi, ns) {
			pids = append(pids, pid)
		}
	}
	return pids
}
