package main

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescue6/rescue/status"
)

const (
	runs = 20
	// breakglass is what gokrazy offers for SSH.
	breakglass = "github.com/gokrazy/breakglass@v0.0.0-20251229072214-9dbc0478d486"
	// idleFor is how long rescued is left alone before its cost is read.
	idleFor = 10 * time.Minute
)

// BenchmarkLogin is the median of 20 times 'ssh host true' with OpenSSH's client
// over a veth pair, in turn against rescue6, gokrazy's breakglass and OpenSSH's
// sshd.
func BenchmarkLogin(b *testing.B) {
	l := newLab(b)
	l.start()
	l.mustLogin(eui64, "true")
	ports := map[string]int{"rescue6": 22, "breakglass": 2201, "sshd": 2202}
	l.startBreakglass(ports["breakglass"])
	l.startSSHD(ports["sshd"])
	for b.Loop() {
		took := map[string][]time.Duration{}
		for range runs {
			for name, port := range ports {
				argv := l.ssh(eui64, "true")
				argv = append(argv[:1:1], append([]string{"-p", strconv.Itoa(port)}, argv[1:]...)...)
				argv = append(argv[:1:1], append([]string{"-o", "HostKeyAlias=" + name}, argv[1:]...)...)
				began := time.Now()
				if out, err := l.combined(l.laptop, argv...); err != nil {
					b.Fatalf("%s: %v\n%s", name, err, out)
				}
				took[name] = append(took[name], time.Since(began))
			}
		}
		for name, all := range took {
			b.ReportMetric(median(all), name+"-ms")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBanner is the time from the SYN to the SSH banner, when the spare is
// there and when it has just been killed.
func BenchmarkBanner(b *testing.B) {
	l := newLab(b)
	l.start()
	l.mustLogin(eui64, "true")
	for b.Loop() {
		var warm, cold []time.Duration
		for range runs {
			l.spare()
			warm = append(warm, l.banner())
			l.kill(l.spare(), syscall.SIGKILL)
			cold = append(cold, l.banner())
		}
		b.ReportMetric(median(warm), "warm-ms")
		b.ReportMetric(median(cold), "cold-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle is what rescued costs when nothing happens, after ten minutes.
func BenchmarkIdle(b *testing.B) {
	l := newLab(b)
	l.start()
	l.mustLogin(eui64, "true")
	holder, worker := l.one("rescued", "holder"), l.one("rescued", "worker")
	for b.Loop() {
		before, began := cpuTime(b, holder)+cpuTime(b, worker), time.Now()
		time.Sleep(idleFor)
		used := cpuTime(b, holder) + cpuTime(b, worker) - before
		b.ReportMetric(100*used.Seconds()/time.Since(began).Seconds(), "cpu-%")
		b.ReportMetric(resident(b, holder), "holder-MB")
		b.ReportMetric(resident(b, worker), "worker-MB")
		b.ReportMetric(resident(b, l.spare()), "spare-MB") // a probe may have taken the first
	}
	b.ReportMetric(0, "ns/op")
}

// spare waits for the warm spare and returns its process.
func (l *lab) spare() int {
	l.t.Helper()
	return l.report("a warm spare", func(r status.Report) bool { return r.Spare.Ready }).Spare.PID
}

// banner connects and reads the first line.
func (l *lab) banner() time.Duration {
	l.t.Helper()
	began := time.Now()
	l.check(l.laptop.Do(func() error {
		d := net.Dialer{Timeout: 10 * time.Second}
		d.SetMultipathTCP(false)
		c, err := d.Dial("tcp6", netip.AddrPortFrom(eui64.WithZone("eth0"), 22).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "SSH-2.0-") {
			err = fmt.Errorf("the banner is %q", line)
		}
		return err
	}))
	return time.Since(began)
}

func (l *lab) startBreakglass(port int) {
	l.t.Helper()
	install := exec.Command("go", "install", breakglass)
	install.Env = append(os.Environ(), "GOBIN="+l.dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		l.t.Fatalf("go install %s: %v\n%s", breakglass, err, out)
	}
	l.run(l.laptop, "ssh-keygen", "-q", "-t", "rsa", "-N", "", "-m", "PEM", "-f", l.path("rsa_key"))
	l.service(port, l.path("breakglass"), "-port", strconv.Itoa(port), "-host_key", l.path("rsa_key"), "-authorized_keys", l.path("user_key.pub"))
}

func (l *lab) startSSHD(port int) {
	l.t.Helper()
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd"
	}
	l.check(os.MkdirAll("/run/sshd", 0o755))
	l.run(l.laptop, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.path("sshd_key"))
	l.service(port, path, "-D", "-e", "-f", "/dev/null", "-h", l.path("sshd_key"), "-p", strconv.Itoa(port),
		"-o", "PidFile=none", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "AuthorizedKeysFile="+l.path("user_key.pub"))
}

// service starts a program on the Pi and waits for it to listen.
func (l *lab) service(port int, name string, args ...string) {
	l.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = l.dir
	log, err := os.Create(l.path(filepath.Base(name) + ".log"))
	l.check(err)
	cmd.Stdout, cmd.Stderr = log, log
	l.check(l.pi.Start(cmd))
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); log.Close() })
	want := fmt.Sprintf(":%04X ", port)
	err = l.pi.WaitFor(l.t.Context(), name, func() (bool, error) {
		b, err := os.ReadFile("/proc/thread-self/net/tcp6")
		return strings.Contains(string(b), want), err
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		l.t.Fatalf("%v\n%s", err, text)
	}
}

// median is in milliseconds.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return all[len(all)/2].Seconds() * 1000
}

// cpuTime is what all threads of a process have used so far.
func cpuTime(b testing.TB, pid int) (total time.Duration) {
	b.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

// resident is VmRSS, in MB.
func resident(b testing.TB, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024 / 1e6
		}
	}
	b.Fatalf("process %d shows no VmRSS", pid)
	return 0
}
