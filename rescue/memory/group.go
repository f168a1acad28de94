package memory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// groupRoot is where cgroups of version 2 are mounted.
const groupRoot = "/sys/fs/cgroup"

// Group returns the directory of a control group of that name, in which processes
// together have three quarters of this machine's memory at most; what exceeds it
// is killed inside the group, by oom_score_adj (cgroups(7), memory.max). The error
// is [errors.ErrUnsupported] where the kernel has no memory controller, or has it
// off.
func Group(name string) (*os.File, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(groupRoot, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("no cgroups of version 2 at %s: %w", groupRoot, errors.ErrUnsupported)
	}
	if err := os.WriteFile(filepath.Join(groupRoot, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
		return nil, fmt.Errorf("the kernel has no memory cgroups (cgroup_enable=memory turns them on): %w", errors.ErrUnsupported)
	}
	var total syscall.Sysinfo_t
	if err := syscall.Sysinfo(&total); err != nil {
		return nil, fmt.Errorf("asking for the size of memory: %w", err)
	}
	limit := uint64(total.Totalram) * uint64(total.Unit) / 4 * 3
	dir := filepath.Join(groupRoot, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("making a cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(strconv.FormatUint(limit, 10)), 0); err != nil {
		return nil, fmt.Errorf("limiting memory: %w", err)
	}
	return os.Open(dir)
}
