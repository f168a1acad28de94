package gokrazy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestPiCmdline(t *testing.T) {
	const qemu = " dwc_otg.lpm_enable=0 initcall_blacklist=bcm2835_wdt_driver_init"
	for _, tt := range []struct{ name, image, want string }{
		{
			name: "as gok writes it, padded for updates in place",
			image: "console=tty1 console=ttyAMA0,115200 root=PARTUUID=60c24cc1-f3f9-427a-8199-f209a3cc0001/PARTNROFF=1 " +
				"init=/gokrazy/init rootwait panic=10 oops=panic          ",
			want: "console=ttyAMA1,115200 root=PARTUUID=60c24cc1-f3f9-427a-8199-f209a3cc0001/PARTNROFF=1 " +
				"init=/gokrazy/init rootwait panic=10 oops=panic" + qemu,
		},
		{
			name:  "with KernelExtraArgs",
			image: "console=serial0,115200 root=/dev/mmcblk0p2 cgroup_enable=memory\n",
			want:  "console=ttyAMA1,115200 root=/dev/mmcblk0p2 cgroup_enable=memory" + qemu,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := piCmdline(tt.image); got != tt.want {
				t.Errorf("piCmdline(%q)\n got %q\nwant %q", tt.image, got, tt.want)
			}
		})
	}
}

func TestLastLines(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		n              int
	}{
		{"fewer than asked", "a\nb\n", "    a\n    b", 3},
		{"more than asked", "a\nb\nc", "    b\n    c", 2},
		{"blank ones do not count", "a\r\n\r\n \r\nb\r\n", "    a\n    b", 2},
		{"a firmware draws", "\x1b[2J\x1b[01;01HBdsDxe: loading\x1b[0m\n", "    [2J[01;01HBdsDxe: loading[0m", 1},
		{"nothing", "", "", 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lastLines(tt.in, tt.n); got != tt.want {
				t.Errorf("lastLines(%q, %d) = %q, want %q", tt.in, tt.n, got, tt.want)
			}
		})
	}
}

// A panic is noticed although the console delivers it in pieces.
func TestConsoleNoticesPanic(t *testing.T) {
	var all strings.Builder
	c := newConsole(&all)
	isClosed := func(ch chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	if isClosed(c.alive) {
		t.Error("alive before the first byte")
	}
	noise := strings.Repeat("noise\n", tailSize)
	text := noise + "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n"
	for _, part := range []string{noise, text[len(noise) : len(noise)+20], text[len(noise)+20:]} {
		if isClosed(c.panicked) {
			t.Fatalf("panicked before %q", part)
		}
		io.WriteString(c, part)
	}
	if !isClosed(c.alive) || !isClosed(c.panicked) {
		t.Errorf("alive %t, panicked %t, want both", isClosed(c.alive), isClosed(c.panicked))
	}
	if all.String() != text {
		t.Error("the writer did not receive all of the console")
	}
	if got, want := c.tail(1), "    [    1.0] Kernel panic - not syncing: Attempted to kill init!"; got != want {
		t.Errorf("tail(1) = %q, want %q", got, want)
	}
}

func TestLookToolNamesThePackage(t *testing.T) {
	_, err := LookTool("qemu-system-none", "qemu-system-arm")
	var missing *MissingTool
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt install qemu-system-arm") {
		t.Errorf("LookTool of a program that nobody has: %v, want a *MissingTool that names the package", err)
	}
}

// QEMU sends events whenever it likes, also between a command and its answer.
func TestMonitor(t *testing.T) {
	defer goleak.VerifyNone(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan []string)
	go func() {
		defer close(served)
		for range 2 {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served <- serveMonitor(conn)
		}
	}()

	results := make(chan string, 1)
	ask := func(command string) {
		out, err := qmp(context.Background(), socket, command)
		if err != nil {
			out = "error: " + err.Error()
		}
		results <- out
	}
	go ask("set_link net0 off")
	if got := strings.Join(<-served, " "); got != "qmp_capabilities human-monitor-command:set_link net0 off" {
		t.Errorf("QEMU was asked %q", got)
	}
	if got := <-results; got != "done\r\n" {
		t.Errorf("answer %q, want what QEMU returned", got)
	}
	go ask("refuse")
	<-served
	if got := <-results; got != "error: no" {
		t.Errorf("answer %q, want QEMU's error", got)
	}
	<-served
}

// serveMonitor is QEMU's side of one connection; it returns what it was asked.
func serveMonitor(conn net.Conn) (asked []string) {
	defer conn.Close()
	io.WriteString(conn, `{"QMP": {"version": {}, "capabilities": []}}`)
	dec := json.NewDecoder(conn)
	for {
		var req struct {
			Execute   string
			Arguments map[string]string
		}
		if dec.Decode(&req) != nil {
			return asked
		}
		io.WriteString(conn, `{"event": "NIC_RX_FILTER_CHANGED", "data": {}}`)
		switch command := req.Arguments["command-line"]; {
		case command == "":
			asked = append(asked, req.Execute)
			io.WriteString(conn, `{"return": {}}`)
		case command == "refuse":
			io.WriteString(conn, `{"error": {"class": "GenericError", "desc": "no"}}`)
		default:
			asked = append(asked, req.Execute+":"+command)
			io.WriteString(conn, `{"return": "done\r\n"}`)
		}
	}
}
