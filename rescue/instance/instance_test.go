package instance

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rescue6/rescue/identity"
)

func TestCreate(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "state")}
	in, err := s.Create("attic")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(in.HostKeyFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("host key: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(s.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", info.Mode(), err)
	}
	// OpenSSH reads the key and agrees.
	out, err := exec.Command("ssh-keygen", "-l", "-f", in.HostKeyFile()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), identity.Fingerprint(in.Key)) {
		t.Errorf("ssh-keygen: %v\n%s", err, out)
	}
	// The key is made once: the label on the card depends on it.
	again, err := s.Create("attic")
	if err != nil || again.Label() != in.Label() {
		t.Errorf("made again: %v, %v, want %v", again.Label(), err, in.Label())
	}
	other, err := s.Create("loft")
	if err != nil || other.Label() == in.Label() {
		t.Errorf("another: %v, %v", other.Label(), err)
	}
	got, err := s.Get("attic")
	if err != nil || !got.Key.Equal(in.Key) {
		t.Errorf("Get = %+v, %v", got, err)
	}
}

func TestGetUnknown(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	if _, err := s.Get("attic"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Get = %v, want ErrUnknown", err)
	}
}

// An instance that cannot be read hides no other.
func TestListPartly(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, name := range []string{"attic", "broken", "loft"} {
		if _, err := s.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	broken, _ := s.Get("broken")
	for _, f := range []string{broken.HostKeyFile(), broken.HostKeyFile() + ".pub"} {
		if err := os.WriteFile(f, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.List()
	if len(all) != 2 || all[0].Name != "attic" || all[1].Name != "loft" {
		t.Errorf("List = %v", all)
	}
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the error does not name it: %v", err)
	}
	if none, err := (Store{Dir: filepath.Join(t.TempDir(), "none")}).List(); len(none) != 0 || err != nil {
		t.Errorf("no state at all: %v, %v", none, err)
	}
}

func TestValidHostname(t *testing.T) {
	for name, ok := range map[string]bool{
		"attic": true, "pi-3": true, "a": true, "3d": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, "a.b": false, "a b": false, "ä": false, "../x": false, "a/b": false, "a_b": false,
		strings.Repeat("x", 64): false, "a\n": false,
	} {
		if err := ValidHostname(name); (err == nil) != ok {
			t.Errorf("ValidHostname(%q) = %v", name, err)
		}
	}
	if _, err := (Store{Dir: t.TempDir()}).Create("../x"); err == nil {
		t.Error("Create takes a path for a name")
	}
}

func TestAuthorizedKeys(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8bGzRJxXaLxpdWtFoA2KpF4yU5Dc6YIGmRnqBx1fSd"
	home := t.TempDir()
	t.Setenv("HOME", home)
	if _, err := AuthorizedKeys(""); err == nil || !strings.Contains(err.Error(), "ssh-keygen") {
		t.Errorf("no key at all: %v, want the command that makes one", err)
	}
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a.pub": key + " a\n", "b.pub": key + " b", "id": "PRIVATE"} {
		if err := os.WriteFile(filepath.Join(home, ".ssh", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := AuthorizedKeys("")
	if want := key + " a\n" + key + " b\n"; err != nil || string(got) != want {
		t.Errorf("AuthorizedKeys = %q, %v", got, err)
	}

	file := filepath.Join(home, "keys")
	for text, says := range map[string]string{
		"":                         "key",
		"garbage\n":                "line 1",
		key + "\n-----BEGIN RSA\n": "line 2",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := AuthorizedKeys(file); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := AuthorizedKeys(filepath.Join(home, "none")); err == nil {
		t.Error("a file that does not exist")
	}
}
