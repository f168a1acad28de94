package gokrazy

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// table makes the first sectors of an image.
func table(gpt bool, first, sectors uint64) []byte {
	b := make([]byte, 34*sector)
	b[510], b[511] = 0x55, 0xaa
	le := binary.LittleEndian
	if gpt {
		copy(b[sector:], "EFI PART")
		e := b[2*sector+3*128:]
		le.PutUint64(e[32:], first)
		le.PutUint64(e[40:], first+sectors-1)
	} else {
		e := b[446+3*16:]
		le.PutUint32(e[8:], uint32(first))
		le.PutUint32(e[12:], uint32(sectors))
	}
	return b
}

func TestFindPerm(t *testing.T) {
	const size = 64 << 20
	for _, tt := range []struct {
		name string
		head []byte
		want partition
		err  string
	}{
		{"GPT", table(true, 2048, 4096), partition{1 << 20, 2 << 20}, ""},
		{"MBR", table(false, 2048, 4096), partition{1 << 20, 2 << 20}, ""},
		{"up to the end", table(false, 2048, size/sector-2048), partition{1 << 20, size - 1<<20}, ""},
		{"beyond the end", table(false, 2048, size/sector-2047), partition{}, "larger --size"},
		{"none", table(false, 0, 0), partition{}, "larger --size"},
		{"ends before it begins", table(true, 4096, ^uint64(2000)), partition{}, "larger --size"},
		{"absurd", table(true, 1<<62, 1<<62), partition{}, "larger --size"},
		{"no table", make([]byte, 34*sector), partition{}, "no partition table"},
		{"cut off", table(true, 2048, 4096)[:1000], partition{}, "no partition table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findPerm(tt.head, size)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("findPerm = %+v, %v", got, err)
			}
		})
	}
}

// The file system is where it should be, and e2fsck finds nothing to mend.
func TestMakePerm(t *testing.T) {
	mkfs, err := LookTool("mkfs.ext4", "e2fsprogs")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, table(false, 2048, 32<<20/sector), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 33<<20); err != nil {
		t.Fatal(err)
	}
	if err := makePerm(t.Context(), mkfs, image); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "perm")
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, b[1<<20:], 0o600); err != nil {
		t.Fatal(err)
	}
	fsck, err := LookTool("e2fsck", "e2fsprogs")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, "-fn", part).CombinedOutput(); err != nil || !strings.Contains(string(out), "perm: ") {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

func FuzzFindPerm(f *testing.F) {
	f.Add(table(true, 2048, 4096))
	f.Add(table(false, 2048, 4096))
	f.Fuzz(func(t *testing.T, head []byte) {
		const size = 1 << 30
		if p, err := findPerm(head, size); err == nil && (p.offset <= 0 || p.size <= 0 || p.offset+p.size > size) {
			t.Errorf("%+v is outside of the image", p)
		}
	})
}
