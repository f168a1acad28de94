package gokrazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// VMConfig says what to boot, and where its network cable ends.
type VMConfig struct {
	Repo    string           // root of the rescue6 sources; OVMF is found through its go.mod
	Image   string           // whole-disk image that Build made; it is not altered
	Machine Machine          // what the image was built for
	Tap     string           // existing tap interface, in the namespace that Start enters
	MAC     net.HardwareAddr // of the guest's only network interface
	Console io.Writer        // receives what the guest prints on its serial console; may be nil

	Clock    time.Time // what the guest's hardware clock says at first; zero: what this machine's says
	MayReset bool      // a panic is not the end of the guest: it is expected to reset itself

	// Start starts QEMU, for a caller whose tap is in another network
	// namespace. If it is nil, QEMU is started where the caller is.
	Start func(*exec.Cmd) error
	Log   *slog.Logger
}

// Guest is an image that runs in QEMU. Writes to its disk last until QEMU ends,
// so they survive a reboot of the guest, and are then forgotten.
type Guest struct {
	Accel string // "kvm" or "tcg"

	dir     string // holds the kernel or the firmware, and the monitor's socket
	cmd     *exec.Cmd
	console *console
	stderr  *stderr
	done    chan struct{}
	err     error // valid once done is closed
	ended   chan struct{}
	cancel  context.CancelFunc
}

// Boot starts the image in QEMU and returns as soon as QEMU runs. The guest
// lives until Close is called or ctx ends. KVM is used where it works: it does
// for guests of the host's own architecture, unless the host only claims to have
// it, which is noticed and answered by a second start without it.
//
// The error is a *MissingTool if a program is not installed.
func Boot(ctx context.Context, cfg VMConfig) (*Guest, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(cfg.Image); err != nil {
		return nil, fmt.Errorf("looking for the image to boot: %w", err)
	}
	accels := []string{"tcg"}
	if cfg.Machine == VM && runtime.GOARCH == "amd64" && kvmPresent() {
		accels = []string{"kvm", "tcg"}
	}
	for {
		g, err := launch(ctx, cfg, accels[0])
		if err != nil {
			return nil, err
		}
		if g.Accel == "tcg" {
			return g, nil
		}
		if g.awaitLife(ctx) {
			return g, nil
		}
		why := g.stderr.String()
		g.Close()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cfg.Log.Info("KVM does not work here; emulating", "qemu", firstLine(why))
		accels = accels[1:]
	}
}

// launch starts QEMU once, with one accelerator.
func launch(ctx context.Context, cfg VMConfig, accel string) (_ *Guest, err error) {
	qemu, err := LookTool(Emulator(cfg.Machine))
	if err != nil {
		return nil, err
	}
	// The socket's path must be short (108 bytes, unix(7)), so the directory is
	// made here, directly under the one for temporary files.
	dir, err := os.MkdirTemp("", "rescue6-vm-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for QEMU: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	args, err := prepare(ctx, cfg, dir, accel)
	if err != nil {
		return nil, err
	}
	monitor, err := monitorListener(dir)
	if err != nil {
		return nil, err
	}
	defer monitor.Close()

	ctx, cancel := context.WithCancel(ctx)
	g := &Guest{
		Accel:   accel,
		dir:     dir,
		cmd:     exec.CommandContext(ctx, qemu, append(args, commonArgs(cfg, accel)...)...),
		console: newConsole(cfg.Console),
		stderr:  newStderr(),
		done:    make(chan struct{}),
		ended:   make(chan struct{}),
		cancel:  cancel,
	}
	g.cmd.Dir = dir
	g.cmd.Stdout = g.console
	g.cmd.Stderr = g.stderr
	g.cmd.ExtraFiles = []*os.File{monitor} // monitorFD
	g.cmd.WaitDelay = 5 * time.Second
	// -snapshot keeps the guest's writes in an unlinked file there.
	g.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	start := cfg.Start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(g.cmd); err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", qemu, err)
	}
	go g.watch(ctx, cfg.MayReset)
	return g, nil
}

// watch waits for the end of QEMU or, unless that may happen, a panic of the
// guest's kernel, whichever comes first, and makes it known through done.
func (g *Guest) watch(ctx context.Context, mayReset bool) {
	wait := make(chan error, 1)
	go func() { wait <- g.cmd.Wait() }()

	panicked := g.console.panicked
	if mayReset {
		panicked = nil
	}
	var waited error
	select {
	case <-panicked:
		g.err = fmt.Errorf("the guest's kernel panicked; its console ended with:\n%s", g.console.tail(20))
		close(g.done)
		<-wait
	case waited = <-wait:
		switch {
		case ctx.Err() != nil:
			g.err = errors.New("the virtual machine was stopped")
		default:
			g.err = fmt.Errorf("QEMU ended (%v): %s\nthe guest's console ended with:\n%s", waited, g.stderr, g.console.tail(20))
		}
		close(g.done)
	}
	close(g.ended)
}

// awaitLife reports whether the guest's firmware says anything within 20 s.
func (g *Guest) awaitLife(ctx context.Context) bool {
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-g.console.alive:
		return true
	case <-g.stderr.kvmFailed:
	case <-g.done:
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// Done is closed when QEMU has ended or the guest's kernel has panicked.
func (g *Guest) Done() <-chan struct{} { return g.done }

// Err says why Done was closed, with the last lines of the console. It is nil
// before.
func (g *Guest) Err() error {
	select {
	case <-g.done:
		return g.err
	default:
		return nil
	}
}

// ConsoleTail returns the last n lines that the guest printed, indented.
func (g *Guest) ConsoleTail(n int) string { return g.console.tail(n) }

// Close ends QEMU at once, as if the power went, and removes its files.
func (g *Guest) Close() error {
	g.cancel()
	<-g.ended
	return os.RemoveAll(g.dir)
}

// MissingTool is the error for a program that is not installed.
type MissingTool struct {
	Program string
	Debian  string // the package of Debian that has it
}

func (e *MissingTool) Error() string {
	return fmt.Sprintf("%s is not installed: apt install %s", e.Program, e.Debian)
}

// LookTool finds a program, also where Debian keeps those for root, which are
// not on the PATH of everybody.
func LookTool(program, debian string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", &MissingTool{program, debian}
}

// kvmPresent reports whether this process may open the KVM device. Whether it
// works is another matter: Boot tries.
func kvmPresent() bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
