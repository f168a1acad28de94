package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// group is a cgroup (version 2, or the pids controller of version 1) with a limit on
// the number of processes and threads.
type group string

func newGroup(t *testing.T) (group, error) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
		dir := filepath.Join(root, fmt.Sprint("rescue6-test-", os.Getpid()))
		if root == "/sys/fs/cgroup" {
			_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+pids"), 0)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if _, err := os.Stat(filepath.Join(dir, "pids.max")); err == nil {
			return group(dir), nil
		}
	}
	return "", fmt.Errorf("none with pids.max")
}

func (g group) write(file, text string) error {
	return os.WriteFile(filepath.Join(string(g), file), []byte(text), 0)
}

func (g group) add(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }

// limit allows what there is, and no more.
func (g group) limit() error {
	now, err := os.ReadFile(filepath.Join(string(g), "pids.current"))
	if err != nil {
		return err
	}
	return g.write("pids.max", strings.TrimSpace(string(now)))
}

func (g group) unlimit() error { return g.write("pids.max", "max") }
