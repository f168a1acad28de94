package gokrazy

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// qemuOf names the emulator of each machine, and the package of Debian that
// has it.
var qemuOf = map[Machine]struct{ program, debian string }{
	Pi: {"qemu-system-aarch64", "qemu-system-arm"},
	VM: {"qemu-system-x86_64", "qemu-system-x86"},
}

// Emulator returns the program that emulates the machine and the package of
// Debian that has it.
func Emulator(m Machine) (program, debian string) { return qemuOf[m].program, qemuOf[m].debian }

// The boot partition starts at sector 8192 of every image that gok makes, unless
// the configuration names another type of device.
const bootPartitionOffset = 8192 * 512

// commonArgs are the arguments of QEMU that do not depend on the machine.
func commonArgs(cfg VMConfig, accel string) []string {
	clock := "utc"
	if !cfg.Clock.IsZero() {
		clock = cfg.Clock.UTC().Format("2006-01-02T15:04:05")
	}
	return []string{
		"-accel", accel,
		"-rtc", "base=" + clock,
		"-snapshot",
		"-display", "none",
		"-monitor", "none",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d,server=on,wait=off", monitorFD),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "stdio,id=console,signal=off",
		"-serial", "chardev:console",
		"-netdev", "tap,id=net0,ifname=" + cfg.Tap + ",script=no,downscript=no",
		"-device", nicOf[cfg.Machine] + ",netdev=net0,mac=" + cfg.MAC.String(),
	}
}

// nicOf names the network interface of each machine: what its kernel has a
// driver for. The Pi's USB network moves about 0.1 MB/s. The e1000 goes without
// its boot ROM: the firmware would use it to look for a server, and answer pings
// to the link-local address before there is a kernel.
var nicOf = map[Machine]string{Pi: "usb-net", VM: "e1000,romfile="}

// prepare puts what QEMU needs to boot the image into dir and returns the
// arguments that name it.
func prepare(ctx context.Context, cfg VMConfig, dir, accel string) ([]string, error) {
	image, err := filepath.Abs(cfg.Image)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", cfg.Image, err)
	}
	// A comma separates options in QEMU's arguments; two stand for one.
	image = strings.ReplaceAll(image, ",", ",,")
	if cfg.Machine == Pi {
		return preparePi(ctx, cfg.Image, image, dir)
	}
	return prepareVM(ctx, cfg.Repo, image, dir, accel)
}

// preparePi extracts what the Pi's own boot loader would read: QEMU has none, and
// is given the kernel, the device tree and the command line.
func preparePi(ctx context.Context, image, drive, dir string) ([]string, error) {
	const kernel, dtb, cmdline = "vmlinuz", "bcm2710-rpi-3-b.dtb", "cmdline.txt"
	if err := extract(ctx, image, dir, kernel, dtb, cmdline); err != nil {
		return nil, err
	}
	line, err := os.ReadFile(filepath.Join(dir, cmdline))
	if err != nil {
		return nil, fmt.Errorf("reading the kernel command line: %w", err)
	}
	return []string{
		"-M", "raspi3b",
		"-kernel", kernel,
		"-dtb", dtb,
		"-append", piCmdline(string(line)),
		"-drive", "file=" + drive + ",format=raw,if=sd",
	}, nil
}

// piCmdline returns the image's kernel command line, changed in what QEMU's Pi
// needs to be different: the console is its first serial port, its USB
// controller has no power management, and arming the hardware watchdog would
// reset it, so that driver stays off.
func piCmdline(image string) string {
	args := []string{"console=ttyAMA1,115200"}
	for _, arg := range strings.Fields(image) {
		if !strings.HasPrefix(arg, "console=") {
			args = append(args, arg)
		}
	}
	return strings.Join(append(args,
		"dwc_otg.lpm_enable=0",
		"initcall_blacklist=bcm2835_wdt_driver_init"), " ")
}

// prepareVM gives the guest the UEFI firmware that gok ships, with variables of
// its own: a boot that finds no disk spoils them for good.
func prepareVM(ctx context.Context, repo, drive, dir, accel string) ([]string, error) {
	// QEMU 7.2 with a thread per CPU now and then runs a kernel into the int3
	// that the kernel patches its own code with ("Oops: int3").
	cpus := "1"
	if accel == "kvm" {
		cpus = "2"
	}
	code, vars, err := firmware(ctx, repo)
	if err != nil {
		return nil, err
	}
	if err := copyFile(filepath.Join(dir, "vars.fd"), vars); err != nil {
		return nil, err
	}
	return []string{
		"-cpu", "max",
		"-smp", cpus,
		"-m", "1024",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + code,
		"-drive", "if=pflash,format=raw,unit=1,file=vars.fd",
		"-drive", "id=disk,file=" + drive + ",format=raw",
		"-device", "i6300esb",
		"-action", "watchdog=reset",
	}, nil
}

// firmware finds OVMF in the module that gok comes from.
func firmware(ctx context.Context, repo string) (code, vars string, err error) {
	const module = "github.com/gokrazy/tools"
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	list.Dir = repo
	out, err := list.Output()
	if err != nil {
		return "", "", fmt.Errorf("looking for %s, which has the UEFI firmware: %w", module, withStderr(err))
	}
	pattern := filepath.Join(strings.TrimSpace(string(out)), "third_party", "edk2-*", "OVMF_CODE_4M.fd")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return "", "", fmt.Errorf("looking for the UEFI firmware: no %s: run 'go mod download' first", pattern)
	}
	code = found[len(found)-1]
	return code, filepath.Join(filepath.Dir(code), "OVMF_VARS_4M.fd"), nil
}

// extract copies files out of the image's boot partition, a FAT file system,
// with mtools.
func extract(ctx context.Context, image, dir string, names ...string) error {
	mcopy, err := LookTool("mcopy", "mtools")
	if err != nil {
		return err
	}
	args := []string{"-n", "-i", fmt.Sprintf("%s@@%d", image, bootPartitionOffset)}
	for _, name := range names {
		args = append(args, "::/"+name)
	}
	out, err := exec.CommandContext(ctx, mcopy, append(args, dir)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reading the boot partition of %s: %s: %w", image, firstLine(string(out)), err)
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// withStderr adds what a command said on its standard error to its error.
func withStderr(err error) error {
	if e, ok := err.(*exec.ExitError); ok && len(e.Stderr) > 0 {
		return fmt.Errorf("%s: %w", firstLine(string(e.Stderr)), err)
	}
	return err
}
