package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescue6/gokrazy"
)

// The images boot for real, in QEMU, on a network without any IPv4, and OpenSSH
// logs in. On two cores without KVM this takes some minutes.

func TestBootPi(t *testing.T) {
	inBootLab(t, plan{machine: gokrazy.Pi}, func(p plan) {
		w := bootForTest(t, p)
		testLogin(t, w)
		t.Run("the memory of sessions is limited", func(t *testing.T) {
			out := w.mustOutput(t, w.ssh(w.label(), "'cat /sys/fs/cgroup/rescue-sessions/memory.max /sys/fs/cgroup/rescue-sessions/cgroup.procs'"))
			if lines := strings.Fields(out); len(lines) < 3 || lines[0] == "max" { // a limit, this session, the spare
				t.Errorf("the cgroup of sessions has:\n%s", out)
			}
		})
	})
}

func TestBootVM(t *testing.T) {
	inBootLab(t, plan{machine: gokrazy.VM}, func(p plan) {
		w := bootForTest(t, p)
		testLogin(t, w)
		t.Run("update", func(t *testing.T) { testUpdate(t, w) })
	})
}

// inBootLab builds the image of a plan, by default from this repository, and calls
// body, in a copy of this test binary that is the first process of a lab.
func inBootLab(t testing.TB, p plan, body func(plan)) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots an image in QEMU")
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p.hostname = labHostname
	if p.repo == "" {
		p.repo = repo
	}
	if dir, inside := labDir(); inside {
		p.dir, p.rescue = dir, filepath.Join(dir, "rescue")
		body(p)
		return
	}

	if err := missingTools(p.machine); err != nil {
		t.Fatal(err)
	}
	if p.dir, err = os.MkdirTemp("", "rescue6-boot-"); err != nil { // short, for the sockets in it
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.rescue = filepath.Join(p.dir, "rescue")
	if out, err := exec.Command("go", "build", "-o", p.rescue, ".").CombinedOutput(); err != nil {
		t.Fatalf("building rescue: %v\n%s", err, out)
	}
	if err := p.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var built bytes.Buffer
	if err := p.build(t.Context(), &built); err != nil {
		t.Fatalf("%v\n%s", err, &built)
	}
	t.Logf("image built in %v", time.Since(began).Round(time.Second))

	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if _, ok := t.(*testing.B); ok {
		args = []string{"-test.run=^$", "-test.bench=^" + t.Name() + "$", "-test.benchtime=1x"}
	}
	var out bytes.Buffer
	err = labCommand{args: args, dir: p.dir, stdout: &out, stderr: &out}.run(t.Context())
	t.Logf("in the lab:\n%s", &out)
	if err != nil {
		t.Fatal(err)
	}
}

// bootForTest boots the image and waits for the banner.
func bootForTest(t testing.TB, p plan) *world {
	t.Helper()
	began := time.Now()
	w, err := bootWorld(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.guest.Err(); err != nil {
			t.Error(err)
		}
		w.Close()
	})
	if err := w.awaitBanner(w.eui64(), bootLimit); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: SSH banner on %v %v after power-on (%s)", p.machine, w.eui64(), time.Since(began).Round(100*time.Millisecond), w.guest.Accel)
	return w
}

// testLogin logs in with OpenSSH to both addresses, with no IPv4 address on the
// laptop or the guest.
func testLogin(t *testing.T, w *world) {
	for name, addr := range map[string]netip.Addr{"EUI-64": w.eui64(), "label": w.label()} {
		t.Run("login to the "+name+" address", func(t *testing.T) {
			if err := w.awaitBanner(addr, time.Minute); err != nil {
				t.Fatal(err)
			}
			out, err := w.output(t.Context(), w.ssh(addr, "cat /etc/hostname"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out); got != w.hostname {
				t.Errorf("/etc/hostname says %q, want %q", got, w.hostname)
			}
		})
	}
	t.Run("no IPv4", func(t *testing.T) {
		for _, line := range []string{"ip -4 addr show dev eth0", w.ssh(w.eui64(), "ip addr show dev eth0")} {
			out, err := w.output(t.Context(), line)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out, "inet ") {
				t.Errorf("'%s' shows an IPv4 address:\n%s", line, out)
			}
		}
	})
}

// A user without a program is told its package, and nothing else happens.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := missingTools(gokrazy.Pi)
	var status *exitError
	if !errors.As(err, &status) || status.status != exitUsage {
		t.Fatalf("missingTools = %v, want exit status %d", err, exitUsage)
	}
	if !strings.Contains(err.Error(), "qemu-system-arm") || strings.Contains(err.Error(), "\n") {
		t.Errorf("missingTools = %q, want one line that names the packages", err)
	}
}

func TestFindLease(t *testing.T) {
	mac := guestMAC[gokrazy.Pi]
	const other = "1795456789 52:54:00:00:00:01 192.0.2.50 other 01:52:54:00:00:00:01\n"
	for _, tt := range []struct {
		name, leases string
		want         netip.Addr
		ok, bad      bool
	}{
		{name: "nobody yet", leases: ""},
		{name: "another", leases: other},
		{name: "the second", leases: other + "1795456789 b8:27:eb:36:36:36 192.0.2.90 attic *\n", want: netip.MustParseAddr("192.0.2.90"), ok: true},
		{name: "in capitals", leases: "1795456789 B8:27:EB:36:36:36 192.0.2.90 * *\n", want: netip.MustParseAddr("192.0.2.90"), ok: true},
		{name: "half a line", leases: "1795456789 b8:27:eb:36:36:36"},
		{name: "no address", leases: "1795456789 b8:27:eb:36:36:36 attic * *\n", bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok, err := findLease(tt.leases, mac)
			if got != tt.want || ok != tt.ok || (err != nil) != tt.bad {
				t.Errorf("findLease = %v, %t, %v, want %v, %t", got, ok, err, tt.want, tt.ok)
			}
		})
	}
}
