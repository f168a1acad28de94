package main

import (
	"slices"
	"strings"
	"testing"

	"rescue6/rescue/identity"
)

// ssh runs "rescue ssh TARGET" with the laptop's key and without a terminal.
func (n *neighbourhood) ssh(target string, words ...string) (out, said string, status int) {
	n.t.Helper()
	return n.rescue(append([]string{"ssh", target, "-F", "none", "-i", n.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"}, words...)...)
}

func TestSSH(t *testing.T) {
	n := newNeighbourhood(t)
	attic, stranger := n.instance(n.state, "attic"), n.instance(t.TempDir(), "stranger")
	n.rescued(n.add("attic", atticMAC), attic)
	n.rescued(n.add("stranger", strangerMAC), stranger)
	n.instance(n.state, "gone")
	// Somebody holds the address of an instance that is off, without its key.
	absent := n.instance(n.state, "absent")
	mallory := n.add("mallory", shyMAC)
	n.rescued(mallory, n.instance(t.TempDir(), "mallory"))
	_, err := mallory.Run(t.Context(), "ip", "addr", "add", absent.Label().String()+"/64", "dev", "eth0", "nodad")
	n.check(err)

	eui64 := func(mac string) string { return "fe80::ba27:ebff:fe00:" + strings.TrimLeft(mac[len(mac)-2:], "0") }
	for _, tt := range []struct {
		name, target string
		words        []string
		status       int
		out, says    string
	}{
		{"by name", "attic", []string{"echo", "hello"}, 0, "hello\n", ""},
		{"by name, with root@", "root@attic", []string{"echo", "hello"}, 0, "hello\n", ""},
		{"the exit status is that of the command", "attic", []string{"exit", "7"}, 7, "", ""},
		{"by MAC", atticMAC, []string{"echo", "hello"}, 0, "hello\n", ""},
		{"by address without a zone", eui64(atticMAC), []string{"echo", "hello"}, 0, "hello\n", ""},
		{"by address with a zone", eui64(atticMAC) + "%eth0", []string{"echo", "hello"}, 0, "hello\n", ""},
		{"a stranger's label address certifies itself", stranger.Label().String(), []string{"echo", "hello"}, 0, "hello\n", ""},
		{"any other stranger is not trusted", eui64(strangerMAC), []string{"echo", "hello"}, 255, "", "Host key verification failed"},
		{"not there", "gone", nil, exitNothing, "", "gone is not on eth0: is it on, and on the same link?"},
		{"the address with another key", "absent", []string{"echo", "hello"}, exitNothing, "", "absent is not on eth0"},
		{"its address is trusted with its key only", absent.Label().String(), []string{"echo", "hello"}, exitNothing, "", "absent is not on eth0"},
		{"unknown name", "cellar", nil, exitUsage, "", `"cellar" is none of your instances (yours are absent, attic, gone)`},
		{"IPv4", "192.0.2.1", nil, exitUsage, "", "no link-local address"},
		{"silent address", "fe80::99", nil, exitNothing, "", "does not answer on eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, said, status := n.ssh(tt.target, tt.words...)
			if status != tt.status || out != tt.out || !strings.Contains(said, tt.says) || tt.says == "" && said != "" {
				t.Errorf("exit status %d\n%s%s", status, out, said)
			}
		})
	}
	t.Run("nobody named", func(t *testing.T) {
		if _, said, status := n.rescue("ssh"); status != exitUsage || !strings.Contains(said, "rescue ssh NAME") {
			t.Errorf("exit status %d\n%s", status, said)
		}
	})
	t.Run("the key of a label address", func(t *testing.T) {
		for _, tt := range []struct {
			key  string
			want bool
		}{
			{strings.Fields(identity.AuthorizedKey(stranger.Key))[1], true},
			{strings.Fields(identity.AuthorizedKey(attic.Key))[1], false},
			{"NONE", false},
			{"AAAA", false},
		} {
			out, said, status := n.rescue("hostkey", "--label", stranger.Label().String(), "--key", tt.key)
			if status != 0 || said != "" || (out != "") != tt.want {
				t.Errorf("%s: exit status %d\n%s%s", tt.key, status, out, said)
			}
		}
	})
}

func TestSplitFlags(t *testing.T) {
	for _, tt := range []struct{ in, flags, command string }{
		{"", "", ""},
		{"uptime", "", "uptime"},
		{"ls -l /", "", "ls -l /"},
		{"-v uptime", "-v", "uptime"},
		{"-L 1:a:2 -N", "-L 1:a:2 -N", ""},
		{"-L1:a:2 uptime", "-L1:a:2", "uptime"},
		{"-vi key uptime -s", "-vi key", "uptime -s"},
		{"-i", "-i", ""},
		{"-t -- -x", "-t", "-x"},
	} {
		flags, command := splitFlags(strings.Fields(tt.in))
		if !slices.Equal(flags, strings.Fields(tt.flags)) || !slices.Equal(command, strings.Fields(tt.command)) {
			t.Errorf("splitFlags(%q) = %q, %q", tt.in, flags, command)
		}
	}
}
