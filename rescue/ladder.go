package rescue

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rescue6/rescue/link"
	"rescue6/rescue/memory"
	"rescue6/rescue/watchdog"
)

// The listener is probed by a real SSH handshake to an own address. That goes
// through the loopback: it proves the listener and the spare, not the link.
const (
	probeEvery    = 5 * time.Minute
	probeSoon     = 2 * time.Second // after a repair, and for the second try
	probeDeadline = 20 * time.Second
)

// errRestart ends the worker: the holder starts another.
var errRestart = errors.New("repairs did not help: starting again")

// stuck climbs the ladder for a link whose repairs do not help.
func (w *worker) stuck(l link.Link, fault string, lasts time.Duration) {
	w.climb(watchdog.Trouble{Lasts: lasts}, l, fault)
}

func (w *worker) climb(t watchdog.Trouble, l link.Link, fault string) {
	t.Since, t.Uptime, t.MayReboot = w.journal.Taken(), watchdog.Uptime(), memory.OnInstance()
	_, _, sessions := w.server.Status()
	for _, s := range sessions {
		t.LoggedIn = t.LoggedIn || s.User != ""
	}
	m := t.Next()
	if m == "" {
		return
	}
	w.log.Warn("repairs do not help", "link", l.Name, "fault", fault, "for", t.Lasts.Round(time.Second), "measure", m)
	w.journal.Take(m, l.Name, "repairs do not help: "+fault)
	switch m {
	case watchdog.Bounce:
		if err := errors.Join(link.SetDown(l.Index), link.SetUp(l.Index)); err != nil {
			w.log.Warn("bouncing the link", "link", l.Name, "err", err)
		}
	case watchdog.Restart:
		_, _ = w.keep()
		w.end(errRestart)
	case watchdog.Reboot:
		text, _ := w.keep()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_, _ = w.helper(ctx, text, "journal", "-write", w.journalFile())
		reboot()
	}
}

// reboot asks the kernel: PID 1 may take minutes. What is not written after a
// moment is lost, since the card may hang.
func reboot() {
	done := make(chan struct{})
	go func() {
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// probe asks the own listener for its host key, every five minutes and after each
// incident.
func (w *worker) probe(ctx context.Context) error {
	timer := time.NewTimer(probeEvery)
	defer timer.Stop()
	failed := 0
	const fault = "SSH does not answer on an own address"
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.repaired:
			timer.Reset(probeSoon)
			continue
		case <-timer.C:
		}
		addr, ok := w.ownAddress()
		if !ok {
			timer.Reset(probeEvery)
			continue
		}
		err := w.handshake(ctx, addr)
		var answered *exec.ExitError
		if err != nil && !errors.As(err, &answered) {
			// It could not be asked: that says nothing of the listener.
			w.log.Warn("probing the listener", "err", err)
			timer.Reset(probeEvery)
			continue
		}
		switch {
		case err == nil && failed == 0:
		case err == nil:
			failed = 0
			w.journal.End(fault, "")
			w.log.Info("recovered", "fault", fault)
		default:
			if failed++; failed == 1 {
				break
			}
			w.journal.Begin(fault, "")
			w.journal.Repaired(fault, "", err.Error())
			w.climb(watchdog.Trouble{ProbeFailed: true}, link.Link{}, fault)
		}
		timer.Reset(probeEvery)
		if failed > 0 {
			timer.Reset(probeSoon)
		}
	}
}

// ownAddress returns a link-local address, with zone, on which the listener should
// answer.
func (w *worker) ownAddress() (netip.Addr, bool) {
	for _, addrs := range w.usableAddresses() {
		return addrs[0], true
	}
	return netip.Addr{}, false
}

// handshake runs one SSH handshake with this machine, in a process of its own, since
// the worker speaks no SSH.
func (w *worker) handshake(ctx context.Context, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, probeDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, fdPath(w.session), "probe", netip.AddrPortFrom(addr, uint16(w.Bound)).String())
	cmd.Args[0] = "rescue-session"
	cmd.Env, cmd.Dir = []string{"TZ="}, "/"
	cmd.ExtraFiles = []*os.File{w.session, w.keysFile} // keys as descriptor 4, as a session has them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s (%w)", strings.TrimSpace(string(out)), err)
	}
	return nil
}
