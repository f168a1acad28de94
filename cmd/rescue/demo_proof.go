//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rescue6/rescue/announce"
	"rescue6/rescue/identity"
	"rescue6/rescue/status"
)

// listenForAnnouncement listens on the laptop, from now on, for an announcement
// of the world's instance that says that IPv4 is dead. The returned function
// waits for it, at most limit from now, checks the signature, and returns the
// command line with which OpenSSH checks it.
func listenForAnnouncement(w *world, limit time.Duration) func() (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	heard := make(chan announce.Announcement, 1)
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		failed <- w.laptop.Do(func() error {
			return announce.Listen(ctx, "eth0", func(a announce.Announcement, _ netip.Addr, _ net.HardwareAddr) {
				if !a.Key.Equal(w.inst.Key) || !a.IPv4Dead {
					return
				}
				select {
				case heard <- a:
					cancel()
				default:
				}
			})
		})
	}()
	return func() (string, error) {
		err := <-failed
		select {
		case a := <-heard:
			return checkAnnouncement(w, a)
		default:
		}
		if err == nil {
			err = fmt.Errorf("no announcement that says that IPv4 is dead was heard within %v", limit)
		}
		return "", w.explain(err)
	}
}

// checkAnnouncement checks the signature and writes the files for OpenSSH's check.
func checkAnnouncement(w *world, a announce.Announcement) (string, error) {
	if err := a.Verify(); err != nil {
		return "", err
	}
	message, signature := a.SSHSIG()
	for name, content := range map[string][]byte{
		"announcement":     message,
		"announcement.sig": signature,
		"allowed_signers":  []byte(w.hostname + " " + identity.AuthorizedKey(w.inst.Key) + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
			return "", fmt.Errorf("keeping the announcement: %w", err)
		}
	}
	return fmt.Sprintf("ssh-keygen -Y verify -n %s -f allowed_signers -I %s -s announcement.sig <announcement",
		announce.Namespace, w.hostname), nil
}

// killSessions kills session processes of the guest, picked at random among all
// that there are, while it logs in again and again with OpenSSH, to both
// addresses in turn. A login that is cut off because it was its own process
// that was picked is repeated; that it works at once is the point.
func (s *script) killSessions(kills, logins int) (killed, worked int, err error) {
	w := s.world
	ctx, cancel := context.WithTimeout(w.ctx, bootLimit)
	defer cancel()
	done := s.progress("logging in and killing")
	defer done()

	killer := make(chan error, 1)
	go func() {
		for killed < kills {
			ok, err := killOneSession(ctx, w)
			if err != nil {
				killer <- err
				return
			}
			if ok {
				killed++
			}
		}
		killer <- nil
	}()
	for addrs := []netip.Addr{w.eui64(), w.label()}; worked < logins; worked++ {
		if err := loginTwice(ctx, w, addrs[worked%2]); err != nil {
			cancel()
			<-killer
			return killed, worked, fmt.Errorf("login %d while sessions are killed: %w", worked+1, err)
		}
	}
	err = <-killer
	return killed, worked, err
}

// loginTwice logs in and, if that is cut off, once more.
func loginTwice(ctx context.Context, w *world, addr netip.Addr) error {
	_, err := w.output(ctx, w.ssh(addr, "cat /etc/hostname"))
	if cutOff(err) {
		_, err = w.output(ctx, w.ssh(addr, "cat /etc/hostname"))
	}
	return err
}

// cutOff says whether ssh ended with the status that means a lost connection.
func cutOff(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 255
}

// killOneSession kills one session process, the spare included, and says whether
// there still was that process.
func killOneSession(ctx context.Context, w *world) (bool, error) {
	out, err := w.output(ctx, w.ssh(w.eui64(), "rescue status --json"))
	if cutOff(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var report status.Report
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &report); err != nil {
		return false, fmt.Errorf("reading the guest's status: %w", err)
	}
	var pids []int
	if report.Spare.PID > 0 {
		pids = append(pids, report.Spare.PID)
	}
	for _, session := range report.Sessions {
		pids = append(pids, session.PID)
	}
	if len(pids) == 0 {
		return false, nil
	}
	_, err = w.output(ctx, w.ssh(w.eui64(), fmt.Sprintf("kill -9 %d", pids[rand.IntN(len(pids))])))
	switch {
	case err == nil, cutOff(err): // it may have been its own
		return true, nil
	case ctx.Err() == nil && strings.Contains(err.Error(), "no such process"):
		return false, nil // it had ended by itself
	}
	return false, err
}
