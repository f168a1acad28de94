package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rescue6/rescue/link/linktest"
	"rescue6/rescue/status"
)

// bin is the directory with the programs under test.
var bin string

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "rescued-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	build := exec.Command("go", "build", "-o", bin, "rescue6/cmd/rescued", "rescue6/cmd/rescue-session")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(bin)
	os.Exit(code)
}

// lab is a Pi and a laptop on one cable, in namespaces of their own.
type lab struct {
	t          testing.TB
	pi, laptop *linktest.Namespace
	dir        string   // keys, sockets, a copy of the programs
	wrapper    []string // command that runs rescued; none: it is run as it is
	args       []string

	macs, renames int // how many there were

	mu  sync.Mutex
	cmd *exec.Cmd
	out bytes.Buffer
}

const testMAC = "b8:27:eb:12:34:56"

var eui64 = netip.MustParseAddr("fe80::ba27:ebff:fe12:3456")

// newLab makes the lab; nothing runs on the Pi yet and its link is down.
func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	l.pi, l.laptop = l.namespace("pi"), l.namespace("laptop")
	l.check(linktest.Veth(l.pi, "eth0", l.laptop, "eth0"))
	l.run(l.pi, "ip", "link", "set", "eth0", "address", testMAC)
	l.run(l.pi, "ip", "link", "set", "lo", "up")
	l.run(l.laptop, "ip", "link", "set", "eth0", "up")
	for _, name := range []string{"rescued", "rescue-session"} {
		b, err := os.ReadFile(filepath.Join(bin, name))
		l.check(err)
		l.check(os.WriteFile(l.path(name), b, 0o755))
	}
	for _, key := range []string{"host_key", "user_key", "other_key"} {
		l.run(l.laptop, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", l.path(key))
	}
	l.args = []string{
		"-host_key", l.path("host_key"), "-authorized_keys", l.path("user_key.pub"),
		"-state_dir", l.path("state"), "-control", l.path("control.sock"),
	}
	return l
}

// start starts rescued as gokrazy would: in a process group of its own, and again
// a second after it ends.
func (l *lab) start(extra ...string) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			argv := slices.Concat(l.wrapper, []string{l.path("rescued")}, l.args, extra)
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Stderr = (*lockedBuffer)(l)
			if err := l.pi.Start(cmd); err != nil {
				l.t.Errorf("starting rescued: %v", err)
				return
			}
			l.mu.Lock()
			l.cmd = cmd
			l.mu.Unlock()
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait()
			stop()
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // gokrazy's pause
			}
		}
	}()
	l.t.Cleanup(func() {
		for _, p := range l.processes("rescue-session") {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
		cancel()
		<-done
		if l.t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Logf("log of rescued:\n%s", l.out.String())
		}
	})
}

// lockedBuffer collects the log of rescued.
type lockedBuffer lab

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (l *lab) namespace(name string) *linktest.Namespace {
	l.t.Helper()
	n, err := linktest.New(name)
	l.check(err)
	l.t.Cleanup(func() { n.Close() })
	return n
}

func (l *lab) read(name string) ([]byte, error) { return os.ReadFile(l.path(name)) }

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) run(n *linktest.Namespace, name string, args ...string) string {
	l.t.Helper()
	out, err := n.Run(l.t.Context(), name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// combined runs a command and returns what it wrote to both of its streams.
func (l *lab) combined(n *linktest.Namespace, argv ...string) (string, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	l.check(n.Start(cmd))
	err := cmd.Wait()
	return out.String(), err
}

// ssh returns OpenSSH's command line to an address of the Pi.
func (l *lab) ssh(addr netip.Addr, args ...string) []string {
	return append([]string{"ssh", "-F", "none", "-i", l.path("user_key"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "HostKeyAlias=pi", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + l.path("known_hosts"), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=accept-new", "root@" + addr.WithZone("eth0").String()}, args...)
}

// login runs one command on the Pi by ssh, once.
func (l *lab) login(addr netip.Addr, command ...string) (string, error) {
	args := l.ssh(addr, command...)
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	out, err := l.laptop.Run(ctx, args[0], args[1:]...)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// mustLogin logs in until it works, and returns what the command said and how
// long it took.
func (l *lab) mustLogin(addr netip.Addr, command ...string) (string, time.Duration) {
	l.t.Helper()
	began := time.Now()
	var last error
	for time.Since(began) < 30*time.Second {
		out, err := l.login(addr, command...)
		if err == nil {
			return out, time.Since(began)
		}
		last = err
		time.Sleep(20 * time.Millisecond)
	}
	l.t.Fatalf("ssh to %s: not within 30 s: %v", addr, last)
	return "", 0
}

// report asks rescued's control socket until ok is content with the answer.
func (l *lab) report(what string, ok func(status.Report) bool) status.Report {
	l.t.Helper()
	var r status.Report
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
		r, err = status.Fetch(ctx, l.path("control.sock"))
		cancel()
		if err == nil && ok(r) {
			return r
		}
	}
	l.t.Fatalf("%s: not within 30 s (%v)\n%+v", what, err, r)
	return r
}

// label returns the label address, as rescued tells it.
func (l *lab) label() netip.Addr {
	l.t.Helper()
	return l.report("a label address", func(r status.Report) bool { return r.Label.IsValid() }).Label
}

// processes returns the live processes of this lab with that name, by their
// command line, oldest first.
func (l *lab) processes(argv0 string, role ...string) []int {
	var all []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var mine syscall.Stat_t
	l.check(l.pi.Do(func() error { return syscall.Stat("/proc/thread-self/ns/net", &mine) }))
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		b, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		argv := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if len(argv) == 0 || argv[0] != argv0 || (len(role) > 0 && (len(argv) < 2 || argv[1] != role[0])) {
			continue
		}
		var st syscall.Stat_t
		if syscall.Stat(filepath.Join(d, "ns/net"), &st) == nil && st.Ino == mine.Ino {
			all = append(all, pid)
		}
	}
	return all
}

// one returns the only process with that name and role.
func (l *lab) one(argv0, role string) int {
	l.t.Helper()
	var all []int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if all = l.processes(argv0, role); len(all) == 1 {
			return all[0]
		}
	}
	l.t.Fatalf("processes %s %s: %v, want one", argv0, role, all)
	return 0
}

func (l *lab) kill(pid int, sig syscall.Signal) {
	l.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		l.t.Fatalf("killing %d: %v", pid, err)
	}
}
