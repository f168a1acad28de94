package gokrazy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Update builds the image anew and sends it with 'gok update' to an instance that
// is running, which boots it. It returns nil once the instance says that it runs
// the new build. There is no way back if the new one does not come up: the other
// root partition still has the old one, but nothing switches to it.
//
// host is where gokrazy's HTTP answers, as it stands in a URL: [Loopback] for the
// laptop's end of a tunnel to /run/gokrazy-http.sock, or [LinkLocal] if the
// running image has a password, which img must have too. img.Size and img.Output
// do not matter.
func Update(ctx context.Context, img Image, host string, progress io.Writer) error {
	instance, cleanUp, err := writeInstance(img)
	if err != nil {
		return err
	}
	defer cleanUp()
	if err := setUpdateHost(filepath.Join(instance, "config.json"), host); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "gok",
		"--parent_dir", filepath.Dir(instance), "-i", filepath.Base(instance), "update")
	cmd.Dir = img.Repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	began := time.Now()
	fmt.Fprintf(progress, "building the image for %s, sending it, and waiting for %s to come back with it …\n", img.Machine, img.Hostname)
	if err := runTool(cmd); err != nil {
		return fmt.Errorf("updating %s: %w", img.Hostname, err)
	}
	fmt.Fprintf(progress, "%s runs the new build: done in %s\n", img.Hostname, time.Since(began).Round(time.Second))
	return nil
}

// Loopback is the host of a tunnel that ends at a port of this machine.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// LinkLocal is the host at a link-local address with its zone. In a URL the
// percent sign is written as %25 (RFC 6874 §2).
func LinkLocal(addr netip.Addr) string {
	return "[" + strings.Replace(addr.String(), "%", "%25", 1) + "]"
}

// setUpdateHost tells gok where the instance is. The port is part of the host,
// since HTTPPort would also become that of the image.
func setUpdateHost(config, host string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return fmt.Errorf("preparing the update: %w", err)
	}
	var c map[string]any
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("reading %s: %w", config, err)
	}
	update, ok := c["Update"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no Update", config)
	}
	update["Hostname"] = host
	update["UseTLS"] = "off"
	if text, err = json.MarshalIndent(c, "", "    "); err != nil {
		return fmt.Errorf("writing %s: %w", config, err)
	}
	return os.WriteFile(config, text, 0o600)
}
