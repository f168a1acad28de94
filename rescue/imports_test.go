package rescue_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// deps returns what a package of this module imports, directly or not, as the
// image is built.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// Imports go one way. What rescued links decides what can break it.
func TestImports(t *testing.T) {
	const shared = "rescue6/rescue/link"
	for _, tt := range []struct {
		pkg       string
		forbidden []string
	}{
		// It reads no byte from the network, so it has nothing that could.
		{"rescue6/cmd/rescued", []string{
			"rescue6/rescue/sshd", "rescue6/rescue/shell", "rescue6/rescue/scan", "rescue6/gokrazy",
			"golang.org/x/crypto/ssh", "net/http", "crypto/tls", "mvdan.cc/sh/v3/interp", "github.com/spf13/cobra",
		}},
		{"rescue6/cmd/rescue-session", []string{"rescue6/rescue/scan", "rescue6/gokrazy", "net/http", "github.com/spf13/cobra", shared + "/linktest"}},
		{"rescue6/cmd/scand", []string{
			"rescue6/rescue/sshd", "rescue6/rescue/shell", "rescue6/rescue/listener", "rescue6/gokrazy",
			"net/http", "github.com/spf13/cobra", shared + "/linktest",
		}},
		{"rescue6/rescue/mdns", []string{"rescue6/rescue/scan", "rescue6/rescue/announce", "rescue6/rescue"}},
		{"rescue6/rescue/watchdog", []string{"rescue6/rescue/sshd", "rescue6/rescue/listener", "rescue6/rescue", "golang.org/x/crypto/ssh"}},
		{"rescue6/rescue/announce", []string{"rescue6/rescue/watchdog", "rescue6/rescue/listener", "rescue6/rescue"}},
		{"rescue6/rescue/scan", []string{"rescue6/rescue/watchdog", "rescue6/rescue/listener", "rescue6/rescue/sshd", "rescue6/rescue"}},
		{shared, []string{"rescue6/rescue/watchdog", "rescue6/rescue/announce", "rescue6/rescue"}},
		{"rescue6/rescue/sshd", []string{"rescue6/rescue/listener", "rescue6/rescue/shell", "rescue6/rescue"}},
		{"rescue6/gokrazy", []string{"rescue6/rescue", shared}},
	} {
		have := deps(t, tt.pkg)
		for _, f := range tt.forbidden {
			if slices.Contains(have, f) {
				t.Errorf("%s imports %s", tt.pkg, f)
			}
		}
	}
}

// Only link speaks netlink and changes the kernel's state.
func TestOnlyLinkSpeaksNetlink(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "rescue6/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(imports, "github.com/vishvananda/netlink") && !strings.HasPrefix(pkg, "rescue6/rescue/link") {
			t.Errorf("%s imports netlink", pkg)
		}
		if strings.Contains(imports, "github.com/google/nftables") && pkg != "rescue6/rescue/firewall" {
			t.Errorf("%s imports nftables", pkg)
		}
		if strings.HasPrefix(pkg, "rescue6/rescue") && strings.Contains(imports, "rescue6/gokrazy") {
			t.Errorf("%s imports gokrazy", pkg)
		}
	}
}
