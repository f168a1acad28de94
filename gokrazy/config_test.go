package gokrazy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// committed is config.json as it is in the repository.
func committed(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../config.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The promise needs these in the image, whoever edits config.json.
func TestConfigKeepsTheGuarantee(t *testing.T) {
	var c struct {
		Update          struct{ NoPassword bool }
		Environment     []string
		Packages        []string
		GokrazyPackages []string
		PackageConfig   map[string]struct {
			DontStart     bool
			WaitForClock  bool
			WaitFor       []string
			GoBuildTags   []string
			ExtraFileText map[string]string `json:"ExtraFileContents"`
		}
		KernelPackage string
	}
	if err := json.Unmarshal(committed(t), &c); err != nil {
		t.Fatal(err)
	}
	if !c.Update.NoPassword {
		t.Error("gok would make up a password, and gokrazy's HTTP would be on the network")
	}
	if !slices.Contains(c.Environment, "CGO_ENABLED=0") || !slices.Contains(c.Environment, "GOARCH=arm64") {
		t.Errorf("Environment is %v", c.Environment)
	}
	if c.KernelPackage != "github.com/gokrazy/kernel.rpi" {
		t.Errorf("the kernel is %s", c.KernelPackage)
	}
	for name, starts := range map[string]bool{"rescued": true, "rescue-session": false, "rescue": false} {
		p := "rescue6/cmd/" + name
		if !slices.Contains(c.Packages, p) {
			t.Errorf("%s is not in the image", p)
		}
		if c.PackageConfig[p].DontStart == starts {
			t.Errorf("%s: DontStart is %t", p, c.PackageConfig[p].DontStart)
		}
	}
	if p := c.PackageConfig[rescued]; p.WaitForClock || len(p.WaitFor) > 0 {
		t.Error("rescued waits for something: those are waits for IPv4")
	}
}

func TestTransform(t *testing.T) {
	img := Image{Hostname: "attic", Machine: Pi, HostKey: "/k/host_key", AuthorizedKeys: "/k/authorized_keys"}
	read := func(img Image) map[string]any {
		t.Helper()
		b, err := transform(committed(t), img)
		if err != nil {
			t.Fatal(err)
		}
		var c map[string]any
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	pi := read(img)
	if pi["Hostname"] != "attic" || pi["KernelPackage"] != "github.com/gokrazy/kernel.rpi" {
		t.Errorf("pi: %v, %v", pi["Hostname"], pi["KernelPackage"])
	}
	files := pi["PackageConfig"].(map[string]any)[rescued].(map[string]any)["ExtraFilePaths"].(map[string]any)
	if files[hostKeyPath] != "/k/host_key" || files[authorizedKeysPath] != "/k/authorized_keys" {
		t.Errorf("keys: %v", files)
	}

	img.Machine, img.Password = VM, "secret"
	vm := read(img)
	if vm["KernelPackage"] != "github.com/gokrazy/kernel.amd64" || vm["FirmwarePackage"] != "" || vm["EEPROMPackage"] != "" {
		t.Errorf("vm: %v", vm)
	}
	env := vm["Environment"].([]any)
	if !slices.Contains(env, any("GOARCH=amd64")) || slices.Contains(env, any("GOARCH=arm64")) || !slices.Contains(env, any("CGO_ENABLED=0")) {
		t.Errorf("Environment is %v", env)
	}
	if u := vm["Update"].(map[string]any); u["HTTPPassword"] != "secret" || u["NoPassword"] != nil {
		t.Errorf("Update is %v", u)
	}
	// The rest is the same image.
	for _, key := range []string{"Packages", "GokrazyPackages"} {
		a, _ := json.Marshal(pi[key])
		b, _ := json.Marshal(vm[key])
		if string(a) != string(b) {
			t.Errorf("%s: %s for the Pi, %s for the VM", key, a, b)
		}
	}
	for _, bad := range []string{"", "{", "[]", "{}"} {
		if _, err := transform([]byte(bad), img); err == nil {
			t.Errorf("transform(%q) takes it", bad)
		}
	}
}

// Each package of the image, and all they need, is pinned with its checksum.
func TestBuildDirPinsEverything(t *testing.T) {
	var c struct {
		Packages, GokrazyPackages                     []string
		KernelPackage, FirmwarePackage, EEPROMPackage string
	}
	if err := json.Unmarshal(committed(t), &c); err != nil {
		t.Fatal(err)
	}
	packages := slices.Concat(c.Packages, c.GokrazyPackages, []string{"github.com/gokrazy/gokrazy"})
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-mod=readonly", "-deps"}, packages...)...)
	cmd.Dir = "../builddir"
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-m",
		c.KernelPackage, c.FirmwarePackage, c.EEPROMPackage, "github.com/gokrazy/kernel.amd64")
	list.Dir, list.Env = cmd.Dir, cmd.Env
	if out, err := list.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The secrets of an image are for its owner alone while it is built, and go
// afterwards.
func TestWriteInstance(t *testing.T) {
	dir, cleanUp, err := writeInstance(Image{Repo: "..", Hostname: "attic", Machine: Pi, Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	cleanUp()
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, _, err := writeInstance(Image{Repo: t.TempDir(), Hostname: "attic"}); err == nil || !strings.Contains(err.Error(), "is no checkout of rescue6") {
		t.Errorf("a directory without config.json: %v", err)
	}
}

// What fails leaves no file.
func TestBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	img := Image{Repo: "..", Hostname: "attic", Machine: Pi, Size: MinSize, Output: filepath.Join(dir, "attic.img")}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	small := img
	small.Size = 1 << 20
	elsewhere := img
	elsewhere.Repo = dir
	for name, try := range map[string]func() error{
		"interrupted": func() error { return Build(ended, img, io.Discard) },
		"too small":   func() error { return Build(t.Context(), small, io.Discard) },
		"no checkout": func() error { return Build(t.Context(), elsewhere, io.Discard) },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}
