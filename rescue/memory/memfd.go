// Package memory keeps the rescue path off the card: programs and keys live in
// sealed memfds, and what gokrazy needs is locked into the page cache. SD cards
// die, and a page that is missing then is a SIGBUS.
package memory

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// seals make a memfd immutable, for us too.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Seal copies r into a sealed memfd: from then on neither its contents nor,
// if it is a program, the pages of its processes come from the card.
func Seal(name string, r io.Reader) (*os.File, error) {
	// MFD_EXEC exists since Linux 6.3; before, every memfd can be executed.
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("making a memfd for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), "memfd:"+name)
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return nil, fmt.Errorf("copying %s into memory: %w", name, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("sealing the memfd of %s: %w", name, err)
	}
	return f, nil
}

// Scratch makes a memfd that can be written to, for what should outlive a process.
func Scratch(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a memfd for %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), "memfd:"+name), nil
}

// Program copies the program at path into a sealed memfd.
func Program(name, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer f.Close()
	return Seal(name, f)
}
