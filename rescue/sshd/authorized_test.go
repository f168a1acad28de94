package sshd

import (
	"strings"
	"testing"
)

const goodKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8bGzRJxXaLxpdWtFoA2KpF4yU5Dc6YIGmRnqBx1fSd me@desk"

func TestParseAuthorizedKeys(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       AuthorizedKey
		bad        string
	}{
		{"plain", goodKey, AuthorizedKey{Comment: "me@desk"}, ""},
		{"restrict", "restrict " + goodKey, AuthorizedKey{Comment: "me@desk", NoPTY: true, NoForwarding: true}, ""},
		{"restrict, then allow", "restrict,pty " + goodKey, AuthorizedKey{Comment: "me@desk", NoForwarding: true}, ""},
		{"several", `no-pty,no-agent-forwarding,command="echo \"hi\" there" ` + goodKey, AuthorizedKey{Comment: "me@desk", NoPTY: true, Command: `echo "hi" there`}, ""},
		{"upper case", "NO-PTY " + goodKey, AuthorizedKey{Comment: "me@desk", NoPTY: true}, ""},
		{"an option that would have restricted", `from="10.0.0.1" ` + goodKey, AuthorizedKey{}, `line 1: option "from" is not understood`},
		{"an option of tomorrow", "no-everything " + goodKey, AuthorizedKey{}, "is not understood"},
		{"command without a value", "command " + goodKey, AuthorizedKey{}, "command"},
		{"garbage", "hello", AuthorizedKey{}, "line 1: no public key"},
		{"half a key", goodKey[:40], AuthorizedKey{}, "no public key"},
		{"binary", "\x00\xff\xfe", AuthorizedKey{}, "no public key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, bad := ParseAuthorizedKeys([]byte(tt.line + "\n"))
			if tt.bad != "" {
				if len(keys) != 0 || len(bad) != 1 || !strings.Contains(bad[0].Error(), tt.bad) {
					t.Errorf("%d keys, %v; want one error with %q", len(keys), bad, tt.bad)
				}
				return
			}
			if len(keys) != 1 || len(bad) != 0 {
				t.Fatalf("%d keys, %v", len(keys), bad)
			}
			got := keys[0]
			got.Key = nil
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Bad lines cost themselves only, and are named by their number.
func TestGoodLinesCountBesideBadOnes(t *testing.T) {
	text := "# comment\n\n" + goodKey + "\r\ngarbage\n  " + goodKey + "\nfrom=\"x\" " + goodKey
	keys, bad := ParseAuthorizedKeys([]byte(text))
	if len(keys) != 2 || len(bad) != 2 || !strings.HasPrefix(bad[0].Error(), "line 4:") || !strings.HasPrefix(bad[1].Error(), "line 6:") {
		t.Errorf("%d keys, %v", len(keys), bad)
	}
}

func FuzzParseAuthorizedKeys(f *testing.F) {
	f.Add([]byte(goodKey))
	f.Add([]byte(`restrict,command="x" ` + goodKey + "\n\n#\n" + goodKey))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, _ := ParseAuthorizedKeys(b)
		for _, k := range keys {
			if k.Key == nil {
				t.Error("a key without a key")
			}
		}
	})
}
