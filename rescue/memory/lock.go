package memory

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
// go on when the card has died: of PID 1 what is loaded, and all of the files at the
// given paths, which are read again when a program is started again. Elsewhere than
// on an instance it does nothing. It reads from the card and may hang with it.
func LockCard(files ...string) []error {
	if !OnInstance() {
		return nil
	}
	errs := []error{lockPages("/proc/1/exe", loaded)}
	for _, path := range files {
		errs = append(errs, lockPages(path, func(_ *os.File, size int64) int64 { return size }))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// loaded returns how much of a program, from its beginning, is ever mapped: symbols
// and debugging information come last. Of anything else that is all of it. It reads
// nothing but the headers at the beginning of an ELF file (ELF-64, gABI chapters 4
// and 5), which are loaded, too: what lies behind may be on a card that is dead.
func loaded(f *os.File, size int64) int64 {
	const (
		headerSize  = 64
		programSize = 56 // of one entry of the program header table
		ptLoad      = 1
		most        = 64 // entries
	)
	b := make([]byte, headerSize+most*programSize)
	n, _ := f.ReadAt(b, 0)
	if b = b[:n]; n < headerSize || string(b[:6]) != "\x7fELF\x02\x01" {
		return size
	}
	le := binary.LittleEndian
	table, count := le.Uint64(b[32:]), int(le.Uint16(b[56:]))
	if le.Uint16(b[54:]) != programSize || table != headerSize || len(b) < headerSize+count*programSize {
		return size
	}
	var end uint64
	for i := range count {
		if p := b[headerSize+i*programSize:]; le.Uint32(p) == ptLoad {
			end = max(end, le.Uint64(p[8:])+le.Uint64(p[32:]))
		}
	}
	if end == 0 || end > uint64(size) {
		return size
	}
	return int64(end)
}

// lockPages maps the beginning of the file at path and locks it into memory, for
// the life of this process; part says how much of it. Without it the first missing page of PID 1 after
// the card has died is a SIGBUS, a kernel panic and a reboot onto no card. The
// mapping is kept on purpose.
func lockPages(path string, part func(f *os.File, size int64) int64) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(part(f, st.Size())), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", path, err)
	}
	if err := unix.Mlock(b); err != nil {
		return fmt.Errorf("locking %s into memory: %w", path, err)
	}
	return nil
}
