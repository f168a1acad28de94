package gokrazy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

const sector = 512 // bytes

// partition is a part of an image, in bytes.
type partition struct{ offset, size int64 }

// makePerm makes the file system of /perm, the fourth partition, within the image
// file: no loop device and no root are needed.
func makePerm(ctx context.Context, mkfs, image string) error {
	p, err := permOf(image)
	if err != nil {
		return err
	}
	return runTool(exec.CommandContext(ctx, mkfs, "-q", "-F", "-L", "perm",
		"-E", fmt.Sprintf("offset=%d,lazy_itable_init=1", p.offset), image, fmt.Sprintf("%dk", p.size/1024)))
}

func permOf(image string) (partition, error) {
	f, err := os.Open(image)
	if err != nil {
		return partition{}, err
	}
	defer f.Close()
	head := make([]byte, 34*sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return partition{}, fmt.Errorf("reading the partition table: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return partition{}, err
	}
	return findPerm(head, st.Size())
}

// findPerm reads the fourth entry of a GPT (UEFI 2.10 §5.3), or of an MBR that has
// no GPT beside it, which is how gokrazy lays out a card for a Pi.
func findPerm(head []byte, size int64) (partition, error) {
	if len(head) < 34*sector || head[510] != 0x55 || head[511] != 0xaa {
		return partition{}, errors.New("the image has no partition table")
	}
	var p partition
	le := binary.LittleEndian
	if string(head[sector:sector+8]) == "EFI PART" {
		e := head[2*sector+3*128:]
		first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
		p = partition{first * sector, (last - first + 1) * sector}
	} else {
		e := head[446+3*16:]
		p = partition{int64(le.Uint32(e[8:])) * sector, int64(le.Uint32(e[12:])) * sector}
	}
	if p.offset <= 0 || p.size < 1<<20 || p.offset+p.size > size {
		return partition{}, fmt.Errorf("the image has no room for /perm (%d bytes at %d of %d): give a larger --size", p.size, p.offset, size)
	}
	return p, nil
}
