package shell

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"mvdan.cc/sh/v3/interp"
)

// role makes a copy of this test binary the shell, or one of its commands.
const role = "RESCUE6_TEST_SHELL"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "shell":
		if len(os.Args) > 2 && os.Args[1] == "cmd" {
			run, _ := Command(os.Args[2])
			os.Exit(run(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		}
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, Options{
			Self:     []string{"/proc/self/exe", "cmd"},
			Greeting: func(w io.Writer) { io.WriteString(w, "greetings\n") },
		}))
	}
}

// sh returns the shell as a process.
func sh(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"=shell", "GORACE=atexit_sleep_ms=0")
	cmd.Dir = t.TempDir()
	return cmd
}

func TestScripts(t *testing.T) {
	for _, tt := range []struct {
		name, script, stdin, want string
		status                    int
		says                      string
	}{
		{name: "pipes and variables", script: `x=3; for i in 1 2 $x; do echo $i; done | cat`, want: "1\n2\n3\n"},
		{name: "files", script: "echo a > f; cp f g; ls; cat f g; rm f; test -e f || echo gone", want: "f\ng\na\na\ngone\n"},
		{name: "stdin", script: "cat", stdin: "binary \x00\xff", want: "binary \x00\xff"},
		{name: "status", script: "exit 7", status: 7},
		{name: "status of the last command", script: "false", status: 1},
		{name: "unknown", script: "uptme", status: 127, says: "sh: uptme: not found (did you mean uptime?)"},
		{name: "syntax", script: "if", status: 2, says: "sh: "},
		{name: "wrong use", script: "kill", status: 2, says: "usage: kill"},
		{name: "never PID 1", script: "kill -9 1", status: 1, says: `"1" is no process that can be ended`},
		{name: "no such file", script: "cat /nonexistent", status: 1, says: "no such file"},
		{name: "a loop that ends", script: "i=0; while [ $i -lt 50 ]; do i=$((i+1)); done; echo $i", want: "50\n"},
		{name: "help names what there is", script: "help | while read a b; do [ $a != uptime ] || echo $b; done", want: "show how long this system is up, and its load uptime\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := sh(t, "-c", tt.script)
			var out, said bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.stdin), &out, &said
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.status || out.String() != tt.want || !strings.Contains(said.String(), tt.says) {
				t.Errorf("exit status %d\n%q\n%s", got, &out, &said)
			}
		})
	}
}

// Each command that help shows can be called, whatever the interpreter thinks of
// its name.
func TestEveryCommandIsReached(t *testing.T) {
	for name := range registry() {
		if interp.IsBuiltin(name) {
			out, _ := sh(t, "-c", name+" --no-such-flag").CombinedOutput()
			if strings.Contains(string(out), "unsupported builtin") {
				t.Errorf("%s: %s", name, out)
			}
		}
	}
	out, err := sh(t, "-c", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range registry() {
		if !strings.Contains(string(out), "  "+name+" ") {
			t.Errorf("help does not show %s:\n%s", name, out)
		}
	}
}

func TestKill(t *testing.T) {
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := sh(t, "-c", "kill -INT "+strconv.Itoa(victim.Process.Pid)).CombinedOutput(); err != nil {
		_ = victim.Process.Kill()
		t.Errorf("%v: %s", err, out)
	}
	_ = victim.Wait()
	if ws := victim.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v", victim.ProcessState)
	}
	// The kernel's words, so that a script can tell.
	if out, err := sh(t, "-c", "kill "+strconv.Itoa(victim.Process.Pid)).CombinedOutput(); err == nil || !strings.Contains(string(out), "no such process") {
		t.Errorf("%v: %s", err, out)
	}
}

// What the commands say of this system is what others say of it.
func TestSystemCommands(t *testing.T) {
	for name, want := range map[string]string{
		"ip addr show dev lo": "127.0.0.1/8",
		"ip route":            "",
		"ps":                  strconv.Itoa(os.Getpid()),
		"free":                "MemAvailable",
		"uptime":              "up ",
		"df":                  "/",
		"mount":               "proc",
		"uname -r":            "",
	} {
		if _, ok := Command(strings.Fields(name)[0]); !ok {
			continue
		}
		out, err := sh(t, "-c", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestPing(t *testing.T) {
	out, err := sh(t, "-c", "ping -c 1 ::1").CombinedOutput()
	if err != nil && strings.Contains(string(out), "ping_group_range") {
		t.Skipf("echoes are not permitted here: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "64 bytes from ::1") {
		t.Errorf("%v\n%s", err, out)
	}
}

// terminal is the shell on a terminal, as a person has it.
type terminal struct {
	t      *testing.T
	file   *os.File
	output chan []byte // closed when the shell has ended
	seen   string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	cmd := sh(t)
	cmd.Env = append(cmd.Env, "TERM=xterm", "HOME="+t.TempDir())
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, file: f, output: make(chan []byte, 100)}
	go func() {
		defer close(x.output)
		for {
			buf := make([]byte, 4096)
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			x.output <- buf[:n]
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for range x.output { // until its end
		}
		f.Close()
	})
	return x
}

// read waits for more output; ok is false at its end, or if none comes in time.
func (x *terminal) read(limit time.Duration) (ok bool) {
	select {
	case b, ok := <-x.output:
		x.seen += string(b)
		return ok
	case <-time.After(limit):
		return false
	}
}

// expect reads until the text appears.
func (x *terminal) expect(want string) {
	x.t.Helper()
	for !strings.Contains(x.seen, want) {
		if !x.read(20 * time.Second) {
			x.t.Fatalf("waiting for %q; seen:\n%q", want, x.seen)
		}
	}
	_, x.seen, _ = strings.Cut(x.seen, want)
}

func (x *terminal) typed(text string) {
	x.t.Helper()
	if _, err := x.file.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

func TestInteractive(t *testing.T) {
	x := newTerminal(t)
	x.expect("greetings")
	x.expect("# ")
	x.typed("echo one two\r")
	x.expect("\none two\r\n")
	x.expect("# ")
	// Editing: back over what is wrong, and the line before once more.
	x.typed("echo wrng\x1b[D\x1b[Do\r")
	x.expect("\nwrong\r\n")
	x.expect("# ")
	x.typed("\x1b[A\r")
	x.expect("\nwrong\r\n")
	x.expect("# ")
	// Ctrl-C ends what runs, not the shell.
	x.typed("sleep 600\r")
	x.expect("sleep 600\r\n")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(x.seen, "# ") && time.Now().Before(end); {
		x.typed("\x03") // when the first comes, it may not have been started
		x.read(300 * time.Millisecond)
	}
	x.expect("# ")
	// A loop goes over several lines.
	x.typed("for i in 1 2; do\r")
	x.typed("echo n$i; done\r")
	x.expect("\nn1\r\nn2\r\n")
	x.expect("# ")
	x.typed("cd /; pwd\r")
	x.expect("\n/\r\n")
	x.typed("exit\r")
	for x.read(20 * time.Second) {
	}
	if _, more := <-x.output; more {
		t.Error("exit does not end the shell")
	}
}

func TestSuggestion(t *testing.T) {
	for in, want := range map[string]string{"upitme": "uptime", "pign": "ping", "xyzzyx": "help"} {
		if got := suggestion(in); !strings.Contains(got, want) {
			t.Errorf("suggestion(%q) = %q, want %s", in, got, want)
		}
	}
}
