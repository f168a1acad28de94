package memory

import (
	"fmt"
	"os"
	"strconv"
)

// SetOOMScore sets oom_score_adj of this process, and so of what it starts from
// then on: -1000 is never killed for want of memory, 1000 is killed first. Less
// than it was needs root (proc(5)).
func SetOOMScore(n int) error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(n)), 0); err != nil {
		return fmt.Errorf("setting oom_score_adj to %d: %w", n, err)
	}
	return nil
}

// SetName sets the name that ps shows, of at most 15 bytes: a process that runs
// from a memfd has a number for its name otherwise.
func SetName(name string) { _ = os.WriteFile("/proc/self/comm", []byte(name), 0) }
