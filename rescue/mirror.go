package rescue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// mirrorEvery is how often the journal is written to the card at most: cards
	// wear out.
	mirrorEvery = 10 * time.Second
	// mirrorDeadline is how long a write to the card may take.
	mirrorDeadline = 20 * time.Second
	maxJournal     = 1 << 20 // bytes
)

// keepJournal lets the journal outlive the worker, in memory that the holder has,
// and the reboot, in a file under the state directory, as far as that works. The
// card is touched by a process of its own, since it may hang.
func (w *worker) keepJournal(ctx context.Context) error {
	w.loadJournal(ctx, bootID())
	var onCard []byte
	var due <-chan time.Time
	trouble := ""
	for {
		text, err := w.keep()
		if err != nil {
			return err
		}
		if due == nil && !bytes.Equal(text, onCard) {
			due = time.After(mirrorEvery)
			if onCard == nil {
				due = time.After(0) // so that the next holder knows of this one
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.journal.Changed():
		case <-due:
			due, onCard = nil, text
			said := ""
			if _, err := w.helper(ctx, text, "journal", "-write", w.journalFile()); err != nil {
				said = err.Error()
			}
			if said != trouble && said != "" {
				w.log.Warn("incidents are kept in memory only", "err", said)
			}
			trouble = said
		}
	}
}

func (w *worker) journalFile() string { return filepath.Join(w.StateDir, "incidents.json") }

// loadJournal reads what was noted before this worker, and notes why there is a new
// one.
func (w *worker) loadJournal(ctx context.Context, boot string) {
	text, err := io.ReadAll(io.NewSectionReader(w.mirror, 0, maxJournal))
	fault, repair := w.Ended, "another was started by the holder"
	if err == nil && len(text) == 0 {
		fault, repair = "rescued ended", "it was started again"
		text, err = w.helper(ctx, nil, "journal", "-read", w.journalFile())
	}
	if err != nil {
		w.log.Warn("reading the incidents of before", "err", err)
		return
	}
	if len(text) == 0 {
		return
	}
	sameBoot, err := w.journal.Load(text, boot)
	if err != nil {
		w.log.Warn("incidents of before are lost", "err", err)
		return
	}
	if sameBoot && fault != "" {
		w.journal.Note(fault, "", repair)
	}
}

// helper runs rescue-session in a role that may touch the card, and returns what it
// prints. After the deadline it is left behind: a process that hangs in a read of
// a dead card cannot be killed.
func (w *worker) helper(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	if !w.helping.TryLock() {
		return nil, fmt.Errorf("the process before still hangs")
	}
	cmd := &exec.Cmd{
		Path: fdPath(w.session), Args: append([]string{"rescue-session"}, args...),
		Env: []string{"TZ="}, Dir: "/", Stdin: bytes.NewReader(stdin),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		w.helping.Unlock()
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		defer w.helping.Unlock()
		done <- cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, mirrorDeadline)
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("%s (%w)", strings.TrimSpace(said.String()), err)
		}
		return out.Bytes(), nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("the card does not answer within %s", mirrorDeadline)
	}
}

// keep writes the journal to the memory that outlives this worker, and returns what
// it wrote.
func (w *worker) keep() ([]byte, error) {
	w.keeping.Lock()
	defer w.keeping.Unlock()
	text := w.journal.Save(bootID())
	if _, err := w.mirror.WriteAt(text, 0); err != nil {
		return text, fmt.Errorf("keeping the journal: %w", err)
	}
	if err := w.mirror.Truncate(int64(len(text))); err != nil {
		return text, fmt.Errorf("keeping the journal: %w", err)
	}
	return text, nil
}

// bootID is the kernel's: another after each boot.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
