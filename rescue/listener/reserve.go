package listener

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A login takes the worker one descriptor for the connection and four for the next
// spare; then some of these are free again.
const (
	reserved     = 8
	reserveAgain = 10 * time.Second
)

// reserve is a number of descriptors that are kept for when there are no others.
type reserve struct {
	mu    sync.Mutex
	files []*os.File
	freed time.Time
}

// fill takes descriptors, as far as there are some.
func (r *reserve) fill(f *os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.files) < reserved && time.Since(r.freed) > reserveAgain {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return
		}
		r.files = append(r.files, os.NewFile(uintptr(fd), "reserve"))
	}
}

// free gives them up if err says that there are no others.
func (r *reserve) free(err error) (freed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !exhausted(err) || len(r.files) == 0 {
		return false
	}
	for _, f := range r.files {
		f.Close()
	}
	r.files, r.freed = nil, time.Now()
	return true
}

// exhausted says that there are no descriptors left.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
