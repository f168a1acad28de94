package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// updatePassword is the one for gokrazy's own web interface.
const updatePassword = "correct-horse-battery"

// testUpdate updates the guest with gok update, twice, and logs in each time:
// first through SSH, to an image that has a password; then, with that password,
// straight to gokrazy's HTTP on fe80.
func testUpdate(t *testing.T, w *world) {
	password := filepath.Join(w.dir, "password")
	if err := os.WriteFile(password, []byte(updatePassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, way := range []struct{ name, flags string }{
		{"through SSH", ""},
		{"straight to fe80", fmt.Sprintf("%v%%eth0 --direct", w.label())},
	} {
		t.Run(way.name, func(t *testing.T) {
			// Each build can be told from the one before.
			mark := fmt.Sprintf("# build %d", i+2)
			appendLine(t, filepath.Join(w.stateDir(), w.hostname, "authorized_keys"), mark)
			before := w.mustOutput(t, w.ssh(w.label(), "cat /proc/sys/kernel/random/boot_id"))

			out := w.mustOutput(t, fmt.Sprintf("rescue update %s -C %s --machine %s --password-file %s %s",
				w.hostname, w.repo, w.machine, password, way.flags))
			t.Log(out)

			if err := w.awaitBanner(w.label(), bootLimit); err != nil {
				t.Fatal(err)
			}
			if after := w.mustOutput(t, w.ssh(w.label(), "cat /proc/sys/kernel/random/boot_id")); after == before {
				t.Errorf("boot ID is still %s: it did not boot", after)
			}
			if keys := w.mustOutput(t, w.ssh(w.eui64(), "cat /etc/rescue6/authorized_keys")); !strings.Contains(keys, mark) {
				t.Errorf("the running build's authorized keys have no %q:\n%s", mark, keys)
			}
		})
	}
}

// mustOutput is output for a command that has to work.
func (w *world) mustOutput(t *testing.T, line string) string {
	t.Helper()
	out, err := w.output(t.Context(), line)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func appendLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatal(err)
	}
}
