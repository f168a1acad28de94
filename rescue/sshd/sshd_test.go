package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

// server is a Server on a loopback port, with OpenSSH's keys, whose shell is this
// machine's.
type server struct {
	Server
	t    *testing.T
	dir  string
	port int

	mu    sync.Mutex
	users []string
}

func start(t *testing.T, change func(*server)) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	for _, k := range []string{"ed25519", "ecdsa", "rsa", "other"} {
		kind := k
		if k == "other" {
			kind = "ed25519"
		}
		run(t, "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", s.path(k))
	}
	var text []byte
	for _, k := range []string{"ed25519", "ecdsa", "rsa"} {
		b, err := os.ReadFile(s.path(k + ".pub"))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	keys, bad := ParseAuthorizedKeys(text)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	s.Server = Server{
		HostKey: signer, AuthorizedKeys: keys, Log: slog.New(slog.DiscardHandler),
		Shell: func(command string, login bool) *exec.Cmd {
			if login {
				return exec.Command("/bin/sh")
			}
			return exec.Command("/bin/sh", "-c", command)
		},
		Authenticated: func(user, fingerprint string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.users = append(s.users, user+" "+fingerprint)
		},
	}
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _ = s.Serve(ctx, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
		goleak.VerifyNone(t)
	})
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// ssh returns OpenSSH's client with a key and more arguments; host is "pi".
func (s *server) ssh(key string, args ...string) *exec.Cmd {
	base := []string{"-F", "none", "-i", s.path(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + s.path("known_hosts"), "-o", "LogLevel=ERROR",
		"-o", "Hostname=::1", "-p", strconv.Itoa(s.port), "-l", "root"}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	s.t.Cleanup(cancel)
	return exec.CommandContext(ctx, "ssh", append(base, args...)...)
}

func TestKeysOfEachTypeLogIn(t *testing.T) {
	s := start(t, nil)
	for _, key := range []string{"ed25519", "ecdsa", "rsa"} {
		if out, err := s.ssh(key, "pi", "echo $USER $SSH_CONNECTION").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "root ::1 ") {
			t.Errorf("%s: %v, %s", key, err, out)
		}
	}
	if len(s.users) != 3 || !strings.HasPrefix(s.users[0], "root SHA256:") {
		t.Errorf("Authenticated was told %q", s.users)
	}
}

func TestOtherKeyAndPasswordAreRefused(t *testing.T) {
	s := start(t, nil)
	out, err := s.ssh("other", "-o", "PreferredAuthentications=publickey,password,keyboard-interactive", "pi", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied (publickey)") {
		t.Errorf("%v, %s; want a refusal that offers public keys only", err, out)
	}
	if len(s.users) > 0 {
		t.Errorf("logged in: %q", s.users)
	}
}

func TestExitStatusAndSignal(t *testing.T) {
	s := start(t, nil)
	for _, tt := range []struct {
		command string
		want    int
	}{{"true", 0}, {"exit 7", 7}, {"exit 255", 255}, {"kill -TERM $$", 255}} {
		cmd := s.ssh("ed25519", "pi", tt.command)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != tt.want {
			t.Errorf("%s: exit status %d, want %d", tt.command, got, tt.want)
		}
	}
}

func TestStreamsAreBinaryAndHalfClosed(t *testing.T) {
	s := start(t, nil)
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	cmd := s.ssh("ed25519", "pi", "sha256sum; echo done >&2")
	cmd.Stdin = bytes.NewReader(data)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(data)); !strings.HasPrefix(out.String(), want) || errOut.String() != "done\n" {
		t.Errorf("the other side saw %q and said %q, want %s and done", out.String(), errOut.String(), want)
	}
	cmd = s.ssh("ed25519", "pi", "head -c 8388608 /dev/zero | tr '\\0' '\\377'; printf end")
	got, err := cmd.Output()
	if err != nil || len(got) != 8<<20+3 || !bytes.HasSuffix(got, []byte("\xffend")) {
		t.Errorf("%d bytes came back (%v), want %d", len(got), err, 8<<20+3)
	}
}

func TestEnvironment(t *testing.T) {
	s := start(t, nil)
	cmd := s.ssh("ed25519", "-o", "SendEnv=LANG EVIL LD_PRELOAD PATH", "pi", "echo \"$LANG|$LD_PRELOAD|$PATH\"")
	cmd.Env = append(os.Environ(), "LANG=de_DE.UTF-8", "LD_PRELOAD=", "PATH="+os.Getenv("PATH")+":/marker")
	out, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(out), "de_DE.UTF-8||") || strings.Contains(string(out), "/marker") {
		t.Errorf("%v, %s", err, out)
	}
}

func TestTerminal(t *testing.T) {
	s := start(t, nil)
	cmd := s.ssh("ed25519", "-tt", "pi")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	screen := &screen{}
	go func() { _, _ = io.Copy(screen, tty) }()
	fmt.Fprint(tty, "stty size; echo TERM is $TERM; tty\n")
	screen.waitFor(t, "33 101")
	screen.waitFor(t, "TERM is ")
	screen.waitFor(t, "/dev/pts/")
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 20, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(tty, "until stty size | grep '20 60'; do :; done\n")
	screen.waitFor(t, "\n20 60")
	fmt.Fprint(tty, "sleep 1000\n")
	screen.waitFor(t, "sleep 1000")
	fmt.Fprint(tty, "\x03")
	fmt.Fprint(tty, "echo after $((1+1)) interrupt\n")
	screen.waitFor(t, "after 2 interrupt")
	fmt.Fprint(tty, "exit 5\n")
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("exit status %d, want 5", got)
	}
}

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) waitFor(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		found := strings.Contains(s.text.String(), want)
		s.mu.Unlock()
		if found {
			return
		}
	}
	t.Fatalf("the terminal did not show %q within 20 s:\n%s", want, s.text.String())
}

// Whoever hangs up takes along what was running.
func TestHangUpEndsTheProcess(t *testing.T) {
	s := start(t, nil)
	pidFile := s.path("pid")
	cmd := s.ssh("ed25519", "-tt", "pi", "echo $$ > "+pidFile+"; exec sleep 1000")
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var pid string
	poll(t, "the process", func() bool {
		b, _ := os.ReadFile(pidFile)
		pid = strings.TrimSpace(string(b))
		return pid != ""
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	poll(t, "the end of the process", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return os.IsNotExist(err)
	})
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// Forwarding to a TCP port and to a unix socket, as 'gok update' needs it.
func TestForwarding(t *testing.T) {
	s := start(t, nil)
	echo := func(l net.Listener) {
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
	}
	tcp, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	echo(tcp)
	unix, err := net.Listen("unix", s.path("echo.sock"))
	if err != nil {
		t.Fatal(err)
	}
	echo(unix)
	cmd := s.ssh("ed25519", "-W", tcp.Addr().String(), "pi")
	cmd.Stdin = strings.NewReader("through -W")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "through -W" {
		t.Errorf("-W: %v, %s", err, out)
	}
	local := s.path("local.sock")
	cmd = s.ssh("ed25519", "-N", "-L", local+":"+s.path("echo.sock"), "pi")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	poll(t, "the forwarded socket", func() bool { _, err := os.Stat(local); return err == nil })
	c, err := net.Dial("unix", local)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "through -L")
	var a, b string
	if _, err := fmt.Fscanln(c, &a, &b); err != nil || a+b != "through-L" {
		t.Errorf("-L: %q %q, %v", a, b, err)
	}
}

func TestSFTP(t *testing.T) {
	s := start(t, nil)
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	if err := os.WriteFile(s.path("from"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	args := s.ssh("ed25519").Args[1:]
	for i, a := range args {
		if a == "-p" {
			args[i] = "-P" // as scp has it
		}
		if a == "-l" {
			args = args[:i]
			break
		}
	}
	out, err := exec.Command("scp", append(args, "-o", "User=root", s.path("from"), "pi:"+s.path("to"))...).CombinedOutput()
	if err != nil {
		t.Fatalf("scp: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(s.path("to")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived (%v), want the same %d", len(got), err, len(data))
	}
}

func TestManyChannelsOnOneConnection(t *testing.T) {
	s := start(t, nil)
	control := s.path("control")
	master := s.ssh("ed25519", "-M", "-S", control, "-N", "pi")
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = master.Process.Kill()
		_ = master.Wait()
	}()
	poll(t, "the master", func() bool { _, err := os.Stat(control); return err == nil })
	var all sync.WaitGroup
	for i := range 9 { // a tenth is OpenSSH's own limit
		all.Go(func() {
			if out, err := s.ssh("ed25519", "-S", control, "pi", fmt.Sprintf("cat /dev/null; echo %d", i)).Output(); err != nil || string(out) != fmt.Sprintln(i) {
				t.Errorf("channel %d: %v, %s", i, err, out)
			}
		})
	}
	all.Wait()
	if len(s.users) != 1 {
		t.Errorf("%d logins, want 1", len(s.users))
	}
}

// Clients that never get to a login are gone in time, whatever they send.
func TestDeadlines(t *testing.T) {
	var mu sync.Mutex
	exchanged := 0
	s := start(t, func(s *server) {
		s.kexTimeout, s.authTimeout = 300*time.Millisecond, 600*time.Millisecond
		s.KeyExchanged = func() {
			mu.Lock()
			defer mu.Unlock()
			exchanged++
		}
	})
	for name, send := range map[string][]byte{
		"nothing":             nil,
		"another protocol":    []byte("GET / HTTP/1.1\r\n\r\n"),
		"a banner only":       []byte("SSH-2.0-x\r\n"),
		"a banner for ever":   bytes.Repeat([]byte("x"), 1<<20),
		"a packet of 4 GB":    []byte("SSH-2.0-x\r\n\xff\xff\xff\xff\x00"),
		"banner, then a mess": append([]byte("SSH-2.0-x\r\n"), bytes.Repeat([]byte{0, 0, 0x7f}, 1<<18)...),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", s.port))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			go func() { _, _ = c.Write(send) }()
			_, err = io.Copy(io.Discard, c)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the connection was still open after 20 s")
			}
		})
	}
	if exchanged != 0 {
		t.Errorf("%d key exchanges were reported", exchanged)
	}
	// Someone who does exchange keys, and then waits.
	_, err := ssh.Dial("tcp6", fmt.Sprintf("[::1]:%d", s.port), &ssh.ClientConfig{
		HostKeyCallback: ssh.FixedHostKey(s.HostKey.PublicKey()),
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			time.Sleep(time.Second) // longer than the deadline: a person who looks for a key
			return nil, nil
		})},
	})
	if err == nil || exchanged != 1 {
		t.Errorf("login: %v after %d key exchanges, want an error after 1", err, exchanged)
	}
}

// When the kernel starts no process, the login works all the same.
func TestInlineWhenNoProcessStarts(t *testing.T) {
	s := start(t, func(s *server) {
		s.Shell = func(string, bool) *exec.Cmd { return exec.Command("/nonexistent") }
		s.Inline = func(_ context.Context, command string, login bool, stdin io.Reader, stdout, stderr io.Writer) int {
			b, _ := io.ReadAll(stdin)
			fmt.Fprintf(stdout, "inline %s %v %s", command, login, b)
			return 3
		}
	})
	cmd := s.ssh("ed25519", "pi", "free")
	cmd.Stdin = strings.NewReader("input")
	out, _ := cmd.Output()
	if string(out) != "inline free false input" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("%q, exit status %d", out, cmd.ProcessState.ExitCode())
	}
}

func TestRestrictedKey(t *testing.T) {
	s := start(t, func(s *server) {
		s.AuthorizedKeys[0].NoPTY, s.AuthorizedKeys[0].NoForwarding = true, true
		s.AuthorizedKeys[0].Command = "echo forced"
	})
	if out, _ := s.ssh("ed25519", "pi", "echo free").CombinedOutput(); string(out) != "forced\n" {
		t.Errorf("a key with command= got %q", out)
	}
	if out, _ := s.ssh("ed25519", "-tt", "pi").CombinedOutput(); !strings.Contains(string(out), "PTY allocation request failed") {
		t.Errorf("a key with no-pty got %q", out)
	}
	cmd := s.ssh("ed25519", "-W", "[::1]:1", "pi")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "stdio forwarding failed") {
		t.Errorf("forwarding: %v, %s", err, out)
	}
}
