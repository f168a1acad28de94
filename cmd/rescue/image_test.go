package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Wrong use of image is one line that names the fix, exit status 2, and leaves
// no image behind, not even half of one.
func TestImageRefuses(t *testing.T) {
	home := t.TempDir()
	key := filepath.Join(home, "key.pub")
	garbage := filepath.Join(home, "garbage")
	for path, text := range map[string]string{
		key:     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8bGzRJxXaLxpdWtFoA2KpF4yU5Dc6YIGmRnqBx1fSd\n",
		garbage: "-----BEGIN OPENSSH PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		env  string
		says string
	}{
		{"no key", nil, "", "ssh-keygen -t ed25519"},
		{"keys that are none", []string{"--authorized-keys", garbage}, "", "line 1: no public key"},
		{"keys that are not there", []string{"--authorized-keys", filepath.Join(home, "none")}, "", "no such file"},
		{"no hostname", []string{"a.b", "--authorized-keys", key}, "", "a.b"},
		{"a path for a hostname", []string{"../x", "--authorized-keys", key}, "", "../x"},
		{"no size", []string{"--size", "big", "--authorized-keys", key}, "", "use one such as 2GiB"},
		{"too small a card", []string{"--size", "1GiB", "--authorized-keys", key}, "", "use at least 1536 MiB"},
		{"no such machine", []string{"--machine", "vax", "--authorized-keys", key}, "", "it is pi or vm"},
		{"no password in the file", []string{"--password-file", os.DevNull, "--authorized-keys", key}, "", "must hold one line"},
		{"no checkout", []string{"-C", home, "--authorized-keys", key}, "", "is no checkout of rescue6"},
		{"no directory for it", []string{"-o", filepath.Join(home, "none", "x.img"), "-C", "../..", "--authorized-keys", key}, "", "none"},
		{"no mkfs", []string{"-C", "../..", "--authorized-keys", key}, "PATH=" + filepath.Join(home, "bin"), "apt install"},
		{"two names", []string{"a", "b"}, "", "at most 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state, work := t.TempDir(), t.TempDir()
			args := append([]string{"image"}, tt.args...)
			out := filepath.Join(work, "attic.img")
			if !strings.Contains(strings.Join(tt.args, " "), "-o ") {
				args = append(args, "-o", out)
			}
			cmd := rescueCommand(t, state, nil, args...)
			cmd.Env = append(cmd.Env, "HOME="+home)
			if tt.env != "" {
				cmd.Env = append(cmd.Env, tt.env)
			}
			_ = cmd.Run()
			said := cmd.stderr.String()
			if status := cmd.ProcessState.ExitCode(); status != exitUsage || !strings.Contains(said, tt.says) || strings.Count(said, "\n") != 1 || cmd.stdout.Len() > 0 {
				t.Errorf("exit status %d\n%s%s", status, &cmd.stdout, said)
			}
			if left, _ := os.ReadDir(work); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
