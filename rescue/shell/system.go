package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// ps shows processes, from proc(5).
func ps(_ context.Context, s stdio, _ []string) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	pids := []int{}
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PID\tPPID\tS\tRSS\tTHREADS\tCOMMAND")
	for _, pid := range pids {
		f := fields(fmt.Sprintf("/proc/%d/status", pid))
		if f["Pid"] == "" {
			continue // it has ended meanwhile
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		line := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
		if line == "" {
			line = "[" + f["Name"] + "]"
		}
		fmt.Fprintf(t, "%d\t%s\t%.1s\t%s\t%s\t%q\n", pid, f["PPid"], f["State"], or(f["VmRSS"], "0 kB"), f["Threads"], line)
	}
	return t.Flush()
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// fields reads lines of the form "name: value".
func fields(path string) map[string]string {
	b, _ := os.ReadFile(path)
	all := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all
}

func kill(_ context.Context, _ stdio, args []string) error {
	sig := syscall.SIGTERM
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := strings.TrimPrefix(strings.ToUpper(args[0][1:]), "SIG")
		if n, err := strconv.Atoi(name); err == nil {
			sig = syscall.Signal(n)
		} else if sig = unix.SignalNum("SIG" + name); sig == 0 {
			return usageError(fmt.Sprintf("there is no signal %s", args[0][1:]))
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return usageError("usage: kill [-SIGNAL] PID…")
	}
	var errs []error
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil || pid <= 1 {
			errs = append(errs, usageError(fmt.Sprintf("%q is no process that can be ended", a)))
			continue
		}
		if err := syscall.Kill(pid, sig); err != nil {
			errs = append(errs, fmt.Errorf("%d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

func free(_ context.Context, s stdio, _ []string) error {
	m := fields("/proc/meminfo")
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, name := range []string{"MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached", "Shmem", "SwapTotal", "SwapFree"} {
		kb, _ := strconv.Atoi(strings.TrimSuffix(m[name], " kB"))
		fmt.Fprintf(t, "%s\t%.1f MiB\t\n", name, float64(kb)/1024)
	}
	return t.Flush()
}

func uptime(_ context.Context, s stdio, _ []string) error {
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	seconds, _ := strconv.ParseFloat(strings.Fields(string(up) + " 0")[0], 64)
	load, _ := os.ReadFile("/proc/loadavg")
	f := append(strings.Fields(string(load)), "?", "?", "?")
	fmt.Fprintf(s.out, "up %s, load %s %s %s\n", time.Duration(seconds)*time.Second, f[0], f[1], f[2])
	return nil
}

// dmesg shows the kernel's messages (syslog(2)).
func dmesg(_ context.Context, s stdio, _ []string) error {
	const sizeBuffer, readAll = 10, 3 // SYSLOG_ACTION_*
	n, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		return fmt.Errorf("asking for the kernel's messages: %w", err)
	}
	buf := make([]byte, max(n, 1<<16))
	if n, err = unix.Klogctl(readAll, buf); err != nil {
		return fmt.Errorf("reading the kernel's messages: %w", err)
	}
	for line := range strings.Lines(string(buf[:n])) {
		if strings.HasPrefix(line, "<") {
			if _, text, ok := strings.Cut(line, ">"); ok {
				line = text
			}
		}
		if _, err := fmt.Fprint(s.out, line); err != nil {
			return err
		}
	}
	return nil
}

// gokrazySocket is where gokrazy's web interface listens for this machine.
const gokrazySocket = "/run/gokrazy-http.sock"

// quiet is how long a log must say nothing to be taken for read.
const quiet = 500 * time.Millisecond

// logs shows what gokrazy keeps of a service's output: the last 100 lines. HTTP
// by hand and of version 1.0 is all that this needs.
func logs(ctx context.Context, s stdio, args []string) error {
	follow := false
	name := ""
	for _, a := range args {
		switch {
		case a == "-f":
			follow = true
		case name == "" && !strings.HasPrefix(a, "-"):
			name = a
		default:
			return usageError("usage: logs SERVICE [-f]")
		}
	}
	if name == "" {
		files, _ := filepath.Glob("/user/*")
		fmt.Fprintln(s.err, "usage: logs SERVICE [-f], where SERVICE is one of:")
		for _, f := range files {
			fmt.Fprintln(s.err, " ", filepath.Base(f))
		}
		return usageError("which service?")
	}
	if !strings.Contains(name, "/") {
		name = "/user/" + name
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", gokrazySocket)
	if err != nil {
		return fmt.Errorf("asking gokrazy for the log: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	fmt.Fprintf(c, "GET /log?stream=both&path=%s HTTP/1.0\r\n\r\n", url.QueryEscape(name))
	r := bufio.NewReader(c)
	answer, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading gokrazy's answer: %w", err)
	}
	if !strings.Contains(answer, " 200 ") {
		return fmt.Errorf("gokrazy has no log of %s: %s", name, strings.TrimSpace(answer))
	}
	for header := true; ; {
		if !follow {
			_ = c.SetReadDeadline(time.Now().Add(quiet))
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return nil // the end, or quiet
		}
		if header {
			header = strings.TrimSpace(line) != ""
			continue
		}
		if _, err := fmt.Fprint(s.out, line); err != nil {
			return err
		}
	}
}

// syncTime bounds the writing of what is not on the card yet: the card may hang.
const syncTime = 5 * time.Second

func reboot(ctx context.Context, s stdio, args []string) error {
	return restart(s, args, unix.LINUX_REBOOT_CMD_RESTART, "rebooting")
}

func poweroff(ctx context.Context, s stdio, args []string) error {
	return restart(s, args, unix.LINUX_REBOOT_CMD_POWER_OFF, "switching off")
}

// restart ends this system by reboot(2): asking PID 1 can take minutes, or for
// ever.
func restart(s stdio, args []string, cmd int, doing string) error {
	if len(args) > 0 && args[0] != "-f" {
		return usageError("usage: reboot [-f], poweroff [-f]; -f writes nothing to the card first")
	}
	fmt.Fprintln(s.out, doing)
	if len(args) == 0 {
		done := make(chan struct{})
		go func() {
			unix.Sync()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(syncTime):
			fmt.Fprintln(s.err, "the card does not answer: going on without")
		}
	}
	return unix.Reboot(cmd)
}
