package memory

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
)

// What is loaded of a program is what the segments say, and reading that needs the
// first page only.
func TestLoaded(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	st, err := self.Stat()
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.NewFile(self)
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, p := range program.Progs {
		if p.Type == elf.PT_LOAD {
			want = max(want, int64(p.Off+p.Filesz))
		}
	}
	if got := loaded(self, st.Size()); got != want || got >= st.Size() {
		t.Errorf("loaded = %d of %d, want %d", got, st.Size(), want)
	}

	head := make([]byte, 4096)
	if _, err := self.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("#!/bin/sh\n"), "cut off": head[:100],
		"absurd": append(append([]byte{}, head[:64]...), bytes.Repeat([]byte{0xff}, 4000)...),
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := loaded(f, int64(len(b))); got != int64(len(b)) {
			t.Errorf("%s: loaded = %d, want all of %d", name, got, len(b))
		}
		f.Close()
	}
}
