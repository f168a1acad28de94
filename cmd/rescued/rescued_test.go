package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescue6/rescue/status"
)

// The main job: from a link that is down to OpenSSH logged in to both addresses,
// with no IPv4 anywhere.
func TestLoginOnBothAddresses(t *testing.T) {
	l := newLab(t)
	l.start()
	for _, addr := range []netip.Addr{eui64, l.label()} {
		out, took := l.mustLogin(addr, "echo", "hello from $SSH_CONNECTION")
		if !strings.Contains(out, "hello from fe80::") {
			t.Errorf("%s: the command said %q", addr, out)
		}
		t.Logf("%s: logged in after %s", addr, took.Round(time.Millisecond))
	}
	r := l.report("a served link and a warm spare", func(r status.Report) bool {
		return len(r.Links) == 1 && r.Links[0].Served && r.Spare.Ready && r.Announcements.Sent > 0
	})
	if r.Listener.Port != 22 || r.Listener.Scope != "link" || !r.IPv4Dead() {
		t.Errorf("report: %+v", r)
	}
	if out := l.run(l.pi, "ip", "-4", "addr", "show", "dev", "eth0"); out != "" {
		t.Errorf("there is IPv4: %s", out)
	}
}

func TestExitStatusAndStreams(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	args := l.ssh(eui64, "cat; exit 7")
	cmd := exec.Command(args[0], args[1:]...)
	want := bytes.Repeat([]byte("\x00\xff\r\n\x03line"), 1<<17)
	cmd.Stdin = bytes.NewReader(want)
	var got bytes.Buffer
	cmd.Stdout = &got
	l.check(l.laptop.Start(cmd))
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit status %v, want 7", err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes came back, want the same %d", got.Len(), len(want))
	}
}

func TestOnlyTheUsersKeyIsLetIn(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	args := l.ssh(eui64, "true")
	for i, a := range args {
		if a == l.path("user_key") {
			args[i] = l.path("other_key")
		}
	}
	out, err := l.combined(l.laptop, args...)
	if err == nil || !strings.Contains(out, "Permission denied (publickey)") {
		t.Errorf("another key: %v, %s", err, out)
	}
}

// To a global address the port does not even refuse: a scan from elsewhere sees
// nothing.
func TestGlobalAddressIsSilent(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	for _, p := range []string{"2001:db8::%d/64", "fd00::%d/64"} {
		l.run(l.pi, "ip", "addr", "add", fmt.Sprintf(p, 1), "dev", "eth0", "nodad")
		l.run(l.laptop, "ip", "addr", "add", fmt.Sprintf(p, 2), "dev", "eth0", "nodad")
	}
	l.run(l.laptop, "ping", "-c", "1", "-W", "5", "2001:db8::1")
	for _, a := range []string{"2001:db8::1", "fd00::1"} {
		err := l.laptop.Do(func() error {
			c, err := net.DialTimeout("tcp6", net.JoinHostPort(a, "22"), 1500*time.Millisecond)
			if err == nil {
				c.Close()
			}
			return err
		})
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			t.Errorf("connecting to %s: %v, want silence", a, err)
		}
	}
	if _, err := l.login(eui64, "true"); err != nil {
		t.Errorf("the link-local address after that: %v", err)
	}
}

// The rescue path is in memory: with every file of it gone from the disk, all
// that may be killed is killed, and OpenSSH still logs in.
func TestNothingIsNeededFromTheDisk(t *testing.T) {
	l := newLab(t)
	l.start()
	label := l.label()
	l.mustLogin(label, "true")
	for _, name := range []string{"rescued", "rescue-session", "host_key", "user_key.pub"} {
		l.check(os.Remove(l.path(name)))
	}
	for _, p := range []int{l.one("rescued", "holder"), l.one("rescued", "worker"), l.one("rescue-session", "serve")} {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p))
		l.check(err)
		if !strings.HasPrefix(exe, "/memfd:") {
			t.Errorf("process %d runs from %s", p, exe)
		}
	}
	l.kill(l.one("rescue-session", "serve"), syscall.SIGKILL)
	l.kill(l.one("rescued", "worker"), syscall.SIGKILL)
	if out, _ := l.mustLogin(label, "echo", "alive"); out != "alive\n" {
		t.Errorf("the command said %q", out)
	}
}

// A session goes on when the worker is killed and when the holder is; and new
// logins work again at once.
func TestLiveSessionOutlivesWorkerAndHolder(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	args := l.ssh(eui64, "cat")
	live := exec.Command(args[0], args[1:]...)
	in, err := live.StdinPipe()
	l.check(err)
	out, err := live.StdoutPipe()
	l.check(err)
	l.check(l.laptop.Start(live))
	echo := func(when string) {
		t.Helper()
		line := make([]byte, 6)
		if _, err := io.WriteString(in, "alive\n"); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(out, line); err != nil || string(line) != "alive\n" {
			t.Fatalf("%s: the session echoed %q, %v", when, line, err)
		}
	}
	echo("before")
	for _, role := range []string{"worker", "holder"} {
		l.kill(l.one("rescued", role), syscall.SIGKILL)
		_, took := l.mustLogin(eui64, "true")
		echo("after the end of the " + role)
		t.Logf("%s killed: a new login after %s", role, took.Round(time.Millisecond))
		if took > 15*time.Second {
			t.Errorf("%s killed: a new login took %s", role, took)
		}
	}
	in.Close()
	if err := live.Wait(); err != nil {
		t.Errorf("the live session ended with %v", err)
	}
}

// settled says that both addresses of a link are usable.
func settled(r status.Report) bool {
	for _, k := range r.Links {
		label, others := 0, 0
		for _, a := range k.LinkLocal {
			switch {
			case a.Usable && a.Label:
				label++
			case a.Usable:
				others++
			}
		}
		if k.Served && label == 1 && others > 0 {
			return true
		}
	}
	return false
}

// Session processes are killed at random while logins go on: each that had not
// been given to the killed one succeeds.
func TestSessionsKilledAtRandom(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		killed := 0
		for ctx.Err() == nil {
			all := l.processes("rescue-session", "serve")
			if len(all) > 0 {
				_ = syscall.Kill(all[killed*7%len(all)], syscall.SIGKILL)
				killed++
			}
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
		}
		done <- killed
	}()
	for range 15 {
		l.mustLogin(eui64, "true")
	}
	cancel()
	t.Logf("15 logins while %d session processes were killed", <-done)
	if _, err := l.login(eui64, "true"); err != nil {
		t.Errorf("a login afterwards: %v", err)
	}
}

// Clients that do not mean it cost one process each, for a time, and keep nobody
// out.
func TestGarbageKeepsNobodyOut(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(eui64, "true")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range 40 {
		err := l.laptop.Do(func() error {
			c, err := net.DialTimeout("tcp6", net.JoinHostPort(eui64.WithZone("eth0").String(), "22"), 10*time.Second)
			if err == nil {
				conns = append(conns, c)
			}
			return err
		})
		if err != nil {
			continue // the newest of the greediest is refused
		}
		c := conns[len(conns)-1]
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		switch i % 3 {
		case 0: // silence
		case 1:
			_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		case 2:
			_, _ = c.Write(bytes.Repeat([]byte("x"), 1<<20))
		}
	}
	// The same host is the greedy one here, so its login may be refused at first;
	// it is let in when the silent ones have had their ten seconds.
	_, took := l.mustLogin(eui64, "true")
	t.Logf("logged in after %s", took.Round(time.Millisecond))
	l.report("no connection left in key exchange", func(r status.Report) bool {
		for _, s := range r.Sessions {
			if s.State == "kex" {
				return false
			}
		}
		return true
	})
}

func TestBadInput(t *testing.T) {
	l := newLab(t)
	garbage := l.path("garbage")
	l.check(os.WriteFile(garbage, []byte("no key\n"), 0o600))
	l.run(l.pi, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", l.path("ecdsa"))
	l.run(l.pi, "ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", l.path("locked"))
	taken, err := listenIn(l)
	l.check(err)
	defer taken.Close()

	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"host key is garbage", []string{"-host_key", garbage}, "ssh-keygen"},
		{"host key is missing", []string{"-host_key", l.path("none")}, "does not exist"},
		{"host key of another type", []string{"-host_key", l.path("ecdsa")}, "not Ed25519"},
		{"host key with a passphrase", []string{"-host_key", l.path("locked")}, "ssh-keygen -p"},
		{"authorized keys are garbage", []string{"-authorized_keys", garbage}, "no line that can be used"},
		{"authorized keys are missing", []string{"-authorized_keys", l.path("none")}, "does not exist"},
		{"rescue-session is missing", []string{"-session", l.path("none")}, "-session"},
		{"port is taken", []string{"-port", "2022"}, "port 2022 is in use"},
		{"port is no port", []string{"-port", "70000"}, "1 to 65535"},
		{"scope is unknown", []string{"-scope", "world"}, "link, private, global"},
		{"flag is unknown", []string{"-nosuch"}, "rescued -help"},
		{"argument", []string{"eth0"}, "no arguments"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := l.combined(l.pi, append(append([]string{l.path("rescued")}, l.args...), tt.args...)...)
			ee, ok := err.(*exec.ExitError)
			if !ok || ee.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit status 2", err)
			}
			text := strings.TrimSpace(out)
			if !strings.Contains(text, tt.want) || strings.Contains(text, "\n") {
				t.Errorf("said %q, want one line with %q", text, tt.want)
			}
		})
	}
}

// listenIn takes port 2022 on the Pi.
func listenIn(l *lab) (net.Listener, error) {
	var ln net.Listener
	err := l.pi.Do(func() (err error) {
		ln, err = net.Listen("tcp6", "[::]:2022")
		return err
	})
	return ln, err
}
