package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"rescue6/rescue/link/linktest"
)

// beRescue makes a copy of this test binary the command itself.
const beRescue = "RESCUE6_TEST_BE_RESCUE=1"

func TestMain(m *testing.M) {
	if os.Getenv("RESCUE6_TEST_BE_RESCUE") != "" {
		main()
		return
	}
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// command is a run of rescue on one machine.
type command struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

// rescueCommand prepares "rescue args…" with a state directory that is empty or
// given. prefix is what runs it, if anything.
func rescueCommand(t *testing.T, state string, prefix []string, args ...string) *command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if state == "" {
		state = t.TempDir()
	}
	argv := append(append(prefix[:len(prefix):len(prefix)], self), args...)
	c := &command{Cmd: exec.Command(argv[0], argv[1:]...)}
	c.Env = append(os.Environ(), beRescue, "XDG_STATE_HOME="+state)
	c.Stdout, c.Stderr = &c.stdout, &c.stderr
	return c
}

// startOn starts it in a namespace.
func (c *command) startOn(t *testing.T, n *linktest.Namespace) {
	t.Helper()
	if err := n.Start(c.Cmd); err != nil {
		t.Fatal(err)
	}
}

// runOn runs it in a namespace and returns its exit status.
func (c *command) runOn(t *testing.T, n *linktest.Namespace) int {
	t.Helper()
	c.startOn(t, n)
	return c.status(t)
}

// status waits for its end.
func (c *command) status(t *testing.T) int {
	t.Helper()
	if err := c.Wait(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode()
}
