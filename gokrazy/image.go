// Package gokrazy is the host's side of the image: it builds it, boots it under
// QEMU, and updates it. It runs gokrazy's own tools and knows nothing of what the
// programs in the image do.
package gokrazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Machine is what an image is built for.
type Machine string

// The machines: any 64-bit Raspberry Pi, and the amd64 VM of the tests.
const (
	Pi Machine = "pi"
	VM Machine = "vm"
)

// Image says what to build.
type Image struct {
	Repo           string // the checkout of rescue6: an instance directory of gokrazy
	Hostname       string
	Machine        Machine
	HostKey        string // file with the private host key
	AuthorizedKeys string // file
	Size           int64  // of the card in bytes; QEMU's Pi wants a power of two
	Password       string // for gokrazy's own HTTP on private addresses; none: unix socket only
	Output         string // file
}

// MinSize is the size of the smallest image: gokrazy's partitions take 1.1 GB, and
// /perm the rest.
const MinSize = 1536 << 20

// Build builds the image. It appears at Output when it is whole, readable by its
// owner alone, since it holds the host key; on an error, or when ctx ends, nothing
// is left behind.
func Build(ctx context.Context, img Image, progress io.Writer) (err error) {
	if img.Size < MinSize {
		return fmt.Errorf("an image of %d MiB is too small for gokrazy's partitions: use at least %d MiB", img.Size>>20, MinSize>>20)
	}
	if _, err := LookTool("go", "golang"); err != nil {
		return err
	}
	mkfs, err := LookTool("mkfs.ext4", "e2fsprogs")
	if err != nil {
		return err
	}
	instance, cleanUp, err := writeInstance(img)
	if err != nil {
		return err
	}
	defer cleanUp()

	tmp, err := os.CreateTemp(filepath.Dir(img.Output), "."+filepath.Base(img.Output)+"-") // mode 0600
	if err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(tmp.Truncate(img.Size), tmp.Close()); err != nil {
		return fmt.Errorf("making an image of %d MiB: %w", img.Size>>20, err)
	}

	step := func(what string, f func() error) error {
		began := time.Now()
		fmt.Fprintf(progress, "%s …\n", what)
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		fmt.Fprintf(progress, "%s: done in %s\n", what, time.Since(began).Round(100*time.Millisecond))
		return nil
	}
	if err := step("building the image for "+string(img.Machine), func() error {
		return gok(ctx, img, instance, tmp.Name())
	}); err != nil {
		return err
	}
	if err := step("making the file system of /perm", func() error { return makePerm(ctx, mkfs, tmp.Name()) }); err != nil {
		return err
	}
	if err := flush(tmp.Name()); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	return os.Rename(tmp.Name(), img.Output)
}

func flush(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// gok runs gokrazy's packer, at the version that go.mod pins.
func gok(ctx context.Context, img Image, instance, target string) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "gok",
		"--parent_dir", filepath.Dir(instance), "-i", filepath.Base(instance),
		"overwrite", "--full", target, "--target_storage_bytes", fmt.Sprint(img.Size))
	cmd.Dir = img.Repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return runTool(cmd)
}
