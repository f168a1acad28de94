package linktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// enteredEnv marks a process that Enter started, so that it never starts another.
const enteredEnv = "RESCUE6_LINKTEST_ENTERED"

// ErrNotPermitted says that this process may not make network namespaces, not
// even within a user namespace of its own.
var ErrNotPermitted = errors.New("network namespaces are not permitted here: run as root (sudo), or allow user namespaces")

// Enter makes sure that the process may make namespaces. A privileged process is
// left as it is. Any other is run again, with the same arguments, as root of a
// user namespace of its own; Enter then does not return but ends the first
// process with the exit status of the second. Call it first thing in main or
// TestMain, before anything is started.
//
// The error is [ErrNotPermitted] or wraps it.
func Enter() error {
	err := permitted()
	if err == nil {
		return nil
	}
	if os.Getenv(enteredEnv) != "" {
		return fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	}
	status, err := reexec()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	}
	os.Exit(status)
	return nil
}

// permitted tries to make a network namespace, on a thread that ends with it.
func permitted() error {
	result := make(chan error)
	goThread(func() { result <- unix.Unshare(unix.CLONE_NEWNET) })
	return <-result
}

// reexec runs this program again in a user namespace and returns its exit status.
func reexec() (int, error) {
	// Pdeathsig fires when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), enteredEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}

	// The child decides what a signal means. Those of the terminal reach it
	// anyhow, the others are passed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting again in a user namespace: %w", err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGTERM || s == syscall.SIGHUP {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, fmt.Errorf("waiting for the process in the user namespace: %w", err)
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil // as a shell has it
	}
	return cmd.ProcessState.ExitCode(), nil
}
