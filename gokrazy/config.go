package gokrazy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where the keys are in the image.
const (
	hostKeyPath        = "/etc/rescue6/host_key"
	authorizedKeysPath = "/etc/rescue6/authorized_keys"
	rescued            = "rescue6/cmd/rescued"
)

// writeInstance makes a directory that gok takes for an instance: the repository's
// config.json and builddir, with what is particular to this image. It is for the
// owner alone, since a password may be in it.
func writeInstance(img Image) (dir string, cleanUp func(), err error) {
	repo, err := filepath.Abs(img.Repo)
	if err != nil {
		return "", nil, err
	}
	text, err := os.ReadFile(filepath.Join(repo, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("%s is no checkout of rescue6 (it has no config.json): change into one, or give it with -C", repo)
	}
	if err != nil {
		return "", nil, err
	}
	config, err := transform(text, img)
	if err != nil {
		return "", nil, err
	}
	parent, err := os.MkdirTemp("", "rescue6-image-")
	if err != nil {
		return "", nil, fmt.Errorf("making a directory to build in: %w", err)
	}
	cleanUp = func() { os.RemoveAll(parent) }
	dir = filepath.Join(parent, img.Hostname)
	if err := errors.Join(
		os.Mkdir(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600),
		copyBuildDir(repo, dir),
	); err != nil {
		cleanUp()
		return "", nil, fmt.Errorf("preparing the build: %w", err)
	}
	return dir, cleanUp, nil
}

// copyBuildDir copies the pinned versions, with the way back to the repository
// made absolute.
func copyBuildDir(repo, dir string) error {
	to := filepath.Join(dir, "builddir")
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(repo, "builddir", name))
		if err != nil {
			return err
		}
		text := strings.Replace(string(b), "replace rescue6 => ../\n", fmt.Sprintf("replace rescue6 => %q\n", repo), 1)
		if err := os.WriteFile(filepath.Join(to, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// transform returns the configuration of one image, made from the one that is
// committed. Fields that it does not know stay as they are.
func transform(text []byte, img Image) ([]byte, error) {
	var c map[string]any
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("reading config.json: %w", err)
	}
	c["Hostname"] = img.Hostname
	packages, _ := c["PackageConfig"].(map[string]any)
	config, _ := packages[rescued].(map[string]any)
	if config == nil {
		return nil, fmt.Errorf("config.json has no PackageConfig of %s", rescued)
	}
	hostKey, err1 := filepath.Abs(img.HostKey)
	authorized, err2 := filepath.Abs(img.AuthorizedKeys)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	config["ExtraFilePaths"] = map[string]string{hostKeyPath: hostKey, authorizedKeysPath: authorized}
	if img.Password != "" {
		c["Update"] = map[string]any{"HTTPPassword": img.Password, "UseTLS": "off"}
	}
	if img.Machine == VM {
		c["KernelPackage"] = "github.com/gokrazy/kernel.amd64"
		c["FirmwarePackage"], c["EEPROMPackage"] = "", ""
		c["SerialConsole"] = "ttyS0,115200"
		env, _ := c["Environment"].([]any)
		c["Environment"] = append([]any{"GOARCH=amd64"},
			slices.DeleteFunc(env, func(e any) bool { s, _ := e.(string); return strings.HasPrefix(s, "GOARCH=") })...)
	}
	return json.MarshalIndent(c, "", "    ")
}
