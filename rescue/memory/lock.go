package memory

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// OnInstance says whether gokrazy's init is PID 1: then this is a rescue6 image
// and not just any Linux on which rescued was started.
func OnInstance() bool {
	exe, err := os.Readlink("/proc/1/exe")
	return err == nil && filepath.Base(exe) == "init" && strings.HasPrefix(exe, "/gokrazy")
}

// LockCard keeps in memory, for the life of this process, what gokrazy needs to
// go on when the card has died: PID 1, and the programs at the given paths, which
// it starts again. Elsewhere than on an instance it does nothing. It reads from
// the card and may hang with it.
func LockCard(programs ...string) []error {
	if !OnInstance() {
		return nil
	}
	var errs []error
	for _, path := range append([]string{"/proc/1/exe"}, programs...) {
		if err := lockPages(path); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// loaded returns how much of a program, from its beginning, is ever mapped: symbols
// and debugging information come last. Of anything else that is all of it.
func loaded(f *os.File, size int64) int64 {
	program, err := elf.NewFile(f)
	if err != nil {
		return size
	}
	var end uint64
	for _, p := range program.Progs {
		if p.Type == elf.PT_LOAD {
			end = max(end, p.Off+p.Filesz)
		}
	}
	if end == 0 || end > uint64(size) {
		return size
	}
	return int64(end)
}

// lockPages maps the program at path and locks what is loaded of it into memory,
// for the life of this process. Without it the first missing page of PID 1 after
// the card has died is a SIGBUS, a kernel panic and a reboot onto no card. The
// mapping is kept on purpose.
func lockPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(loaded(f, st.Size())), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", path, err)
	}
	if err := unix.Mlock(b); err != nil {
		return fmt.Errorf("locking %s into memory: %w", path, err)
	}
	return nil
}
