// Package rescue is the guarantee, composed: a Pi that is up has an SSH listener
// on its IPv6 link-local addresses.
//
//	gokrazy (PID 1) ── supervises ──► holder     opens [::]:22 first of all; keeps the
//	                                    │        programs and keys in sealed memfds
//	                                    │ starts, restarts, with the same socket
//	                                    ▼
//	   links ◄── watchdog ───────────  worker  ──── announcements ──► ff02::1
//	   up, fe80, label address          │ accepts, limits, hands over
//	                                    ▼
//	                                  session    rescue-session: one process per
//	                                  session    connection, and one spare that is
//	                                  spare      always warm
//
// The packages below it each own one part: link (what the kernel says), watchdog
// (what should be), listener (socket and sessions), announce, status. sshd and
// shell run inside rescue-session and are linked by nothing else; scan and
// instance serve the laptop's side.
package rescue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rescue6/rescue/listener"
	"rescue6/rescue/memory"
	"rescue6/rescue/watchdog"
)

// Settings are what the flags of rescued say.
type Settings struct {
	HostKey        string         `json:"host_key"`        // file, OpenSSH format, Ed25519, no passphrase
	AuthorizedKeys string         `json:"authorized_keys"` // file
	StateDir       string         `json:"state_dir"`       // for what may be lost
	Control        string         `json:"control"`         // path of the control socket
	Session        string         `json:"session"`         // path of rescue-session
	Port           int            `json:"port"`            // that was asked for
	Scope          listener.Scope `json:"scope"`
	Exclude        []string       `json:"exclude"` // names of links to leave alone
}

// UsageError is an error that only the person who started rescued can mend. Its
// text names the fix; the exit status is 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// legacy is what the holder passes to itself, once it runs from memory, and to
// each worker: settings, and descriptors by number.
type legacy struct {
	Settings
	Listener int `json:"listener_fd"`
	Self     int `json:"self_fd"`
	Sessions int `json:"session_fd"`
	Keys     int `json:"keys_fd"`
	Journal  int `json:"journal_fd"`
	Bound    int `json:"bound_port"` // of the listener: Port, unless another program has that
	Pulse    int `json:"pulse_fd"`   // where the worker writes a byte every pulseEvery

	Ended    string `json:"ended"` // why there was a worker before this one
	Restarts int    `json:"restarts"`
}

// The environment variable in which a legacy travels, as JSON, and the first
// arguments that make rescued a holder that runs from memory, and a worker.
const (
	legacyVar  = "RESCUED_LEGACY"
	HolderRole = "holder"
	WorkerRole = "worker"
)

// DefaultPort is that of SSH (RFC 4253 §4.1). Where another program has it, rescued
// listens on fallbackPort until that program has gone; any other port that was asked
// for is a mistake if it is taken.
const (
	DefaultPort  = 22
	fallbackPort = 2222
	reclaimEvery = time.Second
)

// The worker shows that it lives; one that does not is replaced.
const (
	pulseEvery    = 2 * time.Second
	pulseDeadline = 10 * time.Second
)

// keysDeadline bounds the reading of the keys: the card may hang.
const keysDeadline = 20 * time.Second

// Start opens the listener, copies programs and keys into memory and becomes the
// holder, by exec. It returns only with an error.
func Start(ctx context.Context, s Settings) error {
	// Listen first: from here on connections queue, whatever takes its time below.
	bound := s.Port
	sock, err := listener.Listen(bound, s.Scope)
	if errors.Is(err, syscall.EADDRINUSE) && bound == DefaultPort {
		bound = fallbackPort
		sock, err = listener.Listen(bound, s.Scope)
	}
	if err != nil {
		return &UsageError{listener.InUse(bound, err)}
	}
	// Links are raised now, so that addresses pass DAD while the rest is copied.
	watchdog.Policy{Exclude: s.Exclude, Host: memory.OnInstance()}.Once()
	var keys *os.File
	var keysErr error
	read := make(chan struct{})
	go func() {
		defer close(read)
		keys, keysErr = readKeys(ctx, s)
	}()
	self, err := programOrFile("rescued", "/proc/self/exe")
	if err != nil {
		return err
	}
	session, err := programOrFile("rescue-session", s.Session)
	if err != nil {
		return &UsageError{fmt.Errorf("%w: build rescue-session beside rescued, or give its path with -session", err)}
	}
	if <-read; keysErr != nil {
		return keysErr
	}
	journal, err := memory.Scratch("journal")
	if err != nil {
		return err
	}
	l := legacy{Settings: s, Listener: int(sock.Fd()), Self: int(self.Fd()), Sessions: int(session.Fd()),
		Keys: int(keys.Fd()), Journal: int(journal.Fd()), Bound: bound}
	for _, fd := range []int{l.Listener, l.Self, l.Sessions, l.Keys, l.Journal} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("passing on descriptor %d: %w", fd, err)
		}
	}
	env, err := l.environ()
	if err != nil {
		return err
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", l.Self), []string{"rescued", HolderRole}, env)
	runtime.KeepAlive([]any{sock, self, session, keys, journal})
	return fmt.Errorf("running rescued from memory: %w", err)
}

// programOrFile returns a copy of the program in memory or, where the kernel
// makes no memfd that can be executed, the file itself: worse, but it listens.
func programOrFile(name, path string) (*os.File, error) {
	f, err := memory.Program(name, path)
	if err == nil {
		return f, nil
	}
	f, openErr := os.Open(path)
	if openErr != nil {
		return nil, fmt.Errorf("opening %s: %w", name, openErr)
	}
	slog.Warn("program stays on the card", "program", name, "err", err)
	return f, nil
}

// readKeys has a process of its own read and check the keys: it may hang.
func readKeys(ctx context.Context, s Settings) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, keysDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Session, "keys", "-host_key", s.HostKey, "-authorized_keys", s.AuthorizedKeys)
	cmd.Args[0] = "rescue-session"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(problem.String()); text != "" {
			return nil, &UsageError{errors.New(text)}
		}
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	if text := strings.TrimSpace(problem.String()); text != "" {
		slog.Warn(text)
	}
	return memory.Seal("keys", &out)
}

// fdPath returns a path that names an open file in this process's table, also
// in a child whose own descriptors are others.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// environ returns the environment of the next process: a path, a time zone that
// needs no file, and the legacy.
func (l legacy) environ() ([]string, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "TZ=", legacyVar + "=" + string(b)}
	for _, name := range []string{"HOME", "GOTRACEBACK", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env, nil
}

// inherited returns the legacy of this process.
func inherited() (legacy, error) {
	var l legacy
	if err := json.Unmarshal([]byte(os.Getenv(legacyVar)), &l); err != nil {
		return legacy{}, &UsageError{errors.New("roles are for rescued itself: start it without one")}
	}
	os.Unsetenv(legacyVar)
	return l, nil
}

// Hold keeps a worker running, for ever: it returns only if it was started in a
// wrong way. It must be called on the main goroutine: workers end with the
// thread that started them.
func Hold(log *slog.Logger) error {
	l, err := inherited()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := os.Chdir("/"); err != nil {
		log.Warn("leaving the working directory", "err", err)
	}
	protect(log)
	files := map[string]*os.File{}
	for name, fd := range map[string]int{"listener": l.Listener, "rescued": l.Self, "rescue-session": l.Sessions, "keys": l.Keys, "journal": l.Journal} {
		unix.CloseOnExec(fd)
		files[name] = os.NewFile(uintptr(fd), name)
	}
	go func() {
		for _, err := range memory.LockCard(filepath.Join(filepath.Dir(l.Session), "rescued"), l.Session, l.HostKey, l.AuthorizedKeys) {
			log.Warn("a dead card may end us", "err", err)
		}
	}()

	reclaimed := make(chan *os.File)
	if l.Bound != l.Port {
		log.Warn("another program has the port", "port", l.Port, "listening on", l.Bound)
		go reclaim(l.Settings, reclaimed)
	}
	for pause := time.Duration(0); ; l.Restarts++ {
		time.Sleep(pause)
		began := time.Now()
		sock, err := runWorker(l, files, reclaimed)
		if sock != nil {
			files["listener"].Close()
			files["listener"], l.Bound = sock, l.Port
			log.Info("the port is free: listening there", "port", l.Port)
			l.Ended = ""
			continue
		}
		l.Ended = "the worker ended"
		if errors.Is(err, errNoPulse) {
			l.Ended = "the worker did not answer"
		}
		log.Error("the worker ended: starting another", "err", err, "after", time.Since(began).Round(time.Millisecond))
		pause = workerPause(pause, time.Since(began))
	}
}

// workerPause returns how long to wait before the next worker, given the last
// pause and how long the last worker lived: one that worked is replaced at once.
func workerPause(last, lived time.Duration) time.Duration {
	if lived > 500*time.Millisecond {
		return 0
	}
	return min(max(2*last, 20*time.Millisecond), 250*time.Millisecond)
}

// reclaim listens on the port that was asked for as soon as it is free.
func reclaim(s Settings, got chan<- *os.File) {
	for {
		if sock, err := listener.Listen(s.Port, s.Scope); err == nil {
			got <- sock
			return
		}
		time.Sleep(reclaimEvery)
	}
}

// runWorker runs one worker from memory, in a session of its own, since gokrazy
// waits for everything that is left in the holder's process group. It ends the
// worker and returns the listener that it should have had, if one comes.
func runWorker(l legacy, files map[string]*os.File, reclaimed <-chan *os.File) (*os.File, error) {
	next := l
	next.Listener, next.Sessions, next.Keys, next.Journal, next.Pulse = 3, 4, 5, 6, 7
	env, err := next.environ()
	if err != nil {
		return nil, err
	}
	pulse, beats, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer pulse.Close()
	defer beats.Close()
	cmd := &exec.Cmd{
		Path: fdPath(files["rescued"]), Args: []string{"rescued", WorkerRole}, Env: env, Dir: "/",
		Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{files["listener"], files["rescue-session"], files["keys"], files["journal"], beats},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid: true,
			// The worker has the socket, too: it must not keep the next holder out.
			Pdeathsig: syscall.SIGKILL,
		},
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		buf := make([]byte, 16)
		for {
			_ = pulse.SetReadDeadline(time.Now().Add(pulseDeadline))
			if _, err := pulse.Read(buf); err != nil {
				return
			}
		}
	}()
	select {
	case err := <-ended:
		return nil, err
	case <-silent:
		_ = cmd.Process.Kill()
		<-ended
		return nil, errNoPulse
	case sock := <-reclaimed:
		_ = cmd.Process.Kill()
		<-ended
		return sock, nil
	}
}

// errNoPulse says that a worker hung.
var errNoPulse = errors.New("the worker did not answer")

// protect makes this process the last that the kernel ends for want of memory.
func protect(log *slog.Logger) {
	if err := memory.SetOOMScore(-1000); err != nil {
		log.Warn("staying alive when memory runs out needs root", "err", err)
	}
	memory.SetName("rescued")
}
