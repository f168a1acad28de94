package rescue

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rescue6/rescue/announce"
	"rescue6/rescue/identity"
	"rescue6/rescue/link"
	"rescue6/rescue/listener"
	"rescue6/rescue/memory"
	"rescue6/rescue/status"
	"rescue6/rescue/watchdog"
)

// worker is the process that does the work of an instance until it is killed.
type worker struct {
	legacy
	keys     identity.Keys
	keysFile *os.File
	session  *os.File
	group    *os.File // the cgroup of sessions; nil where there is none
	began    time.Time
	hostname string
	log      *slog.Logger

	policy    watchdog.Policy
	journal   *watchdog.Journal
	mirror    *os.File // where the journal outlives this worker
	server    *listener.Server
	announcer *announce.Announcer

	end      func(error)   // ends the worker
	repaired chan struct{} // has something after a repair

	helping sync.Mutex // held while a helper runs
	keeping sync.Mutex // of mirror

	mu    sync.Mutex
	links []link.Link // the last state that was read
}

// Work is the worker's life: links, listener, announcements and the control
// socket, until ctx ends. A part that ends with an error is started again.
func Work(ctx context.Context, log *slog.Logger) error {
	l, err := inherited()
	if err != nil {
		return err
	}
	protect(log)
	// A collection in time keeps the worker small; it has little garbage.
	debug.SetGCPercent(50)
	w, err := newWorker(l, log)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	w.end = func(err error) {
		end(err)
		// What does not end by itself does not keep the next worker waiting.
		time.AfterFunc(2*time.Second, func() { os.Exit(1) })
	}
	if l.Bound != l.Port {
		w.journal.Begin(fmt.Sprintf("another program has port %d", l.Port), "")
		w.journal.Repaired(fmt.Sprintf("another program has port %d", l.Port), "", fmt.Sprintf("listening on port %d", l.Bound))
	}
	var wg sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{
		"listener":       w.server.Run,
		"watchdog":       w.watchdog().Run,
		"announcements":  w.announcer.Run,
		"journal":        w.keepJournal,
		"probe":          w.probe,
		"firewall":       w.openFirewall,
		"neighbours":     w.keepRoomForNeighbours,
		"web interface":  w.watchWeb,
		"pulse":          w.beat,
		"control socket": func(ctx context.Context) error { return status.Serve(ctx, w.Control, w.report) },
	} {
		wg.Go(func() { keepRunning(ctx, name, run, log) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// beat tells the holder that this process lives.
func (w *worker) beat(ctx context.Context) error {
	pulse := os.NewFile(uintptr(w.Pulse), "pulse")
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		if _, err := pulse.Write([]byte{0}); err != nil {
			return fmt.Errorf("telling the holder: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// keepRunning runs one part until ctx ends.
func keepRunning(ctx context.Context, name string, run func(context.Context) error, log *slog.Logger) {
	for ctx.Err() == nil {
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		log.Error("part of the worker ended: starting it again", "part", name, "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func newWorker(l legacy, log *slog.Logger) (*worker, error) {
	for _, fd := range []int{l.Listener, l.Sessions, l.Keys, l.Journal, l.Pulse} {
		unix.CloseOnExec(fd)
	}
	w := &worker{
		legacy: l, log: log, began: time.Now(),
		session:  os.NewFile(uintptr(l.Sessions), "rescue-session"),
		keysFile: os.NewFile(uintptr(l.Keys), "keys"),
		journal:  watchdog.NewJournal(),
		mirror:   os.NewFile(uintptr(l.Journal), "journal"),
		repaired: make(chan struct{}, 1),
	}
	var err error
	if w.keys, err = identity.ReadKeys(io.NewSectionReader(w.keysFile, 0, 1<<20)); err != nil {
		return nil, err
	}
	if w.hostname, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("asking for the hostname: %w", err)
	}
	if memory.OnInstance() {
		if w.group, err = memory.Group("rescue-sessions"); err != nil {
			log.Info("the memory of sessions has no limit", "err", err)
		}
	}
	w.policy = watchdog.Policy{Label: identity.LabelAddress(w.keys.Public()), Exclude: l.Exclude, Host: memory.OnInstance()}
	w.server = listener.New(listener.Config{
		Socket: os.NewFile(uintptr(l.Listener), "listener"), Port: l.Bound, Scope: l.Scope,
		Start: w.startSession, Log: log, Source: (&sources{}).of,
		Incident: func(fault, repair string) { w.journal.Note(fault, "", repair) },
	})
	w.announcer = announce.New(announce.Config{Hostname: w.hostname, Port: uint16(l.Bound), Key: w.keys.HostKey(), Log: log})
	return w, nil
}

// startSession starts a session process, from memory, with the pair as its
// descriptor 3 and the keys as 4. It is in a session of its own, so that it
// outlives us, and writes to a pipe of ours and not to gokrazy's, which a live
// session would otherwise keep from restarting us.
func (w *worker) startSession(pair, stderr *os.File) (*exec.Cmd, error) {
	start := func(attr syscall.SysProcAttr) (*exec.Cmd, error) {
		attr.Setsid = true
		cmd := &exec.Cmd{
			Path: fdPath(w.session), Args: []string{"rescue-session", "serve"},
			Env:         []string{"PATH=" + os.Getenv("PATH"), "TZ=", "HOME=" + os.Getenv("HOME"), "RESCUED_CONTROL=" + w.Control},
			Dir:         "/",
			Stderr:      stderr,
			ExtraFiles:  []*os.File{pair, w.keysFile},
			SysProcAttr: &attr,
		}
		return cmd, cmd.Start()
	}
	if w.group != nil {
		if cmd, err := start(syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(w.group.Fd())}); err == nil {
			return cmd, nil
		}
		// A session without a limit is better than none.
	}
	return start(syscall.SysProcAttr{})
}

// watchdog returns the loop over links, on the real kernel.
func (w *worker) watchdog() *watchdog.Watchdog {
	return watchdog.New(watchdog.Config{
		Policy: w.policy, List: link.List, Watch: link.Watch, Apply: w.apply,
		Changed: w.changed, Stuck: w.stuck, Journal: w.journal, Log: w.log,
	})
}

// apply carries out a repair, after which the listener is probed.
func (w *worker) apply(r watchdog.Repair) error {
	select {
	case w.repaired <- struct{}{}:
	default:
	}
	return watchdog.Apply(r)
}

// changed takes a new state of the links to those who act on it.
func (w *worker) changed(links []link.Link) {
	w.mu.Lock()
	w.links = links
	w.mu.Unlock()
	served := []link.Link{}
	for _, l := range links {
		if ok, _ := w.policy.Serves(l); ok {
			served = append(served, l)
		}
	}
	w.announcer.Update(served, w.report().IPv4Dead())
}

// report returns the state of everything.
func (w *worker) report() status.Report {
	r := status.Report{
		Hostname: w.hostname, HostKey: identity.Fingerprint(w.keys.Public()), Label: w.policy.Label,
		BootID: fmt.Sprintf("%x", w.announcer.BootID()), Uptime: time.Since(w.began), Restarts: w.Restarts, Incidents: w.journal.Incidents(),
	}
	for m, ago := range w.journal.Taken() {
		r.Measures = append(r.Measures, status.Measure{Name: string(m), Ago: ago})
	}
	r.Listener, r.Spare, r.Sessions = w.server.Status()
	r.Announcements.Sent, r.Announcements.Failed, r.Announcements.Last = announced(w.announcer)
	heard := w.server.Heard()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.links {
		if l.Encap == "loopback" {
			continue
		}
		shown := w.describe(l)
		shown.Heard = heard[l.Name]
		r.Links = append(r.Links, shown)
	}
	return r
}

// describe turns a link into values that can be shown.
func (w *worker) describe(l link.Link) status.Link {
	served, why := w.policy.Serves(l)
	s := status.Link{
		Name: l.Name, Index: l.Index, MAC: l.MAC.String(), Kind: l.Kind,
		Served: served, Why: why, Up: l.Up, Carrier: l.Carrier, Gateway4: l.Gateways4,
	}
	for _, a := range l.IPv4 {
		s.IPv4 = append(s.IPv4, a.Prefix)
	}
	for _, a := range l.IPv6 {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			s.Global = append(s.Global, a.Prefix)
			continue
		}
		state := "preferred"
		switch {
		case a.DADFailed:
			state = "dadfailed"
		case a.Tentative:
			state = "tentative"
		}
		s.LinkLocal = append(s.LinkLocal, status.Address{
			Addr: a.Prefix.Addr(), Label: a.Prefix.Addr() == w.policy.Label, Usable: a.Usable(), State: state,
		})
	}
	return s
}

func announced(a *announce.Announcer) (sent, failed uint64, ago time.Duration) {
	sent, failed, last := a.Stats()
	if !last.IsZero() {
		ago = time.Since(last)
	}
	return sent, failed, ago
}
