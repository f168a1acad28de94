package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescue6/gokrazy"
	"rescue6/rescue/link/linktest"
)

// vmFault is a row of the table of faults that only a whole machine can show.
type vmFault struct {
	row      int
	name     string
	inject   func(t *testing.T, w *world)
	within   time.Duration // as the table has it; the test allows much more under TCG
	incident string        // that the journal has afterwards
	reboots  bool          // the machine starts again
	check    []string      // what still works on the guest afterwards
	then     func(t *testing.T, w *world)
	once     bool // it cannot be injected twice
}

// Another network than the lab's: TEST-NET-2 (RFC 5737 §3).
var otherRouter = netip.MustParseAddr("198.51.100.1")

const otherLeases = "198.51.100.50,198.51.100.99,255.255.255.0,2m"

// vmFaults come one after the other, on one machine whose clock begins in 1970 (row
// 19). The last take its card away.
var vmFaults = []vmFault{
	{row: 2, name: "cable out and in", within: 2 * time.Second, incident: "no carrier", inject: func(t *testing.T, w *world) {
		w.monitor(t, "set_link net0 off")
		if err := w.await("silence", time.Minute, func(ctx context.Context) (bool, error) {
			return !w.answers(ctx), nil
		}); err != nil {
			t.Fatal(err)
		}
		w.monitor(t, "set_link net0 on")
	}},
	{row: 12, name: "worker killed", within: 500 * time.Millisecond, incident: "the worker ended",
		inject: func(t *testing.T, w *world) { w.killRole(t, "rescued worker") }},
	{row: 12, name: "holder killed", within: 2 * time.Second, incident: "rescued ended",
		inject: func(t *testing.T, w *world) { w.killRole(t, "rescued holder") }},
	{row: 16, name: "out of memory", within: 2 * time.Second, inject: func(t *testing.T, w *world) {
		w.background(t, w.laptop, w.ssh(w.label(), "'x=$(cat /dev/zero | base64); echo $x'"))
	}},
	{row: 18, name: "/perm full", inject: func(t *testing.T, w *world) {
		_ = w.run(t.Context(), w.ssh(w.label(), "'cat /dev/zero > /perm/full'"), io.Discard)
		if out := w.mustOutput(t, w.ssh(w.label(), "df")); !strings.Contains(out, " 0.0 B  /perm") && !strings.Contains(out, "  0.0 B ") {
			t.Errorf("/perm is not full:\n%s", out)
		}
	}, check: []string{"uptime"}, then: func(t *testing.T, w *world) { w.mustOutput(t, w.ssh(w.label(), "rm /perm/full")) }},
	{row: 18, name: "/perm read-only", once: true, inject: func(t *testing.T, w *world) {
		w.mustOutput(t, w.ssh(w.label(), "'echo u > /proc/sysrq-trigger'")) // as after errors of the card
		if err := w.await("/perm to be read-only", time.Minute, func(context.Context) (bool, error) {
			return strings.Contains(w.mustOutput(t, w.ssh(w.label(), "mount")), " on /perm type ext4 (ro"), nil
		}); err != nil {
			t.Error(err)
		}
	}, check: []string{"uptime"}},
	{row: 18, name: "/perm corrupt", once: true, inject: func(t *testing.T, w *world) {
		w.mustOutput(t, "head -c 4000000 /dev/zero | "+w.ssh(w.label(), "'cat > /dev/sda4'"))
		w.mustOutput(t, w.ssh(w.label(), "'echo 3 > /proc/sys/vm/drop_caches'"))
	}, check: []string{"uptime"}},
	{row: 21, name: "neighbour table full", within: 10 * time.Second, incident: "the neighbour table was full", inject: func(t *testing.T, w *world) {
		w.mustOutput(t, w.ssh(w.label(), "'cd /proc/sys/net/ipv6/neigh/default; echo 1 > gc_thresh1; echo 4 > gc_thresh2; echo 8 > gc_thresh3'"))
		w.background(t, w.laptop, fmt.Sprintf(`for i in $(seq 1 200); do echo addr replace fe80::f:$i/64 dev eth0 nodad; done | ip -6 -batch -
			for round in $(seq 1 8); do for i in $(seq 1 200); do ping -c 1 -W 1 -I fe80::f:$i%%eth0 %v%%eth0 >/dev/null & done; wait; done`, w.eui64()))
	}, then: func(t *testing.T, w *world) {
		w.mustOutput(t, "for i in $(seq 1 200); do echo addr del fe80::f:$i/64 dev eth0; done | ip -6 -batch -")
	}},
	{row: 24, name: "DHCP server dead", inject: func(t *testing.T, w *world) {
		w.leaseFrom(t, labRouter, labLeases)
		if err := w.killDHCP(); err != nil {
			t.Fatal(err)
		}
	}},
	{row: 24, name: "DHCP server refuses and leases another subnet", inject: func(t *testing.T, w *world) {
		w.killRole(t, "dhcp")
		w.leaseFrom(t, otherRouter, otherLeases)
		if err := w.killDHCP(); err != nil {
			t.Fatal(err)
		}
	}},
	{row: 25, name: "NIC made anew, gokrazy's HTTP", within: 65 * time.Second, once: true, incident: "gokrazy's own HTTP does not answer",
		inject: func(t *testing.T, w *world) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_ = w.run(ctx, w.ssh(w.label(), `'cd /sys/bus/pci/drivers/e1000; nic=$(echo 0000:*); echo $nic > unbind; echo $nic > bind; true'`), io.Discard)
		}, then: func(t *testing.T, w *world) {
			began := time.Now()
			addr := w.eui64().String() + "%eth0"
			if err := w.await("gokrazy's HTTP", 3*time.Minute, func(ctx context.Context) (bool, error) {
				return strings.HasPrefix(ask(ctx, w, "["+addr+"]:80", "GET / HTTP/1.0\r\n\r\n"), "HTTP/1."), nil
			}); err != nil {
				t.Error(err)
			}
			t.Logf("HTTP after %v", time.Since(began).Round(time.Second))
		}},
	{row: 26, name: "kernel panic, /perm corrupt", within: 40 * time.Second, reboots: true, once: true, inject: func(t *testing.T, w *world) {
		w.background(t, w.laptop, w.ssh(w.label(), "'echo c > /proc/sysrq-trigger'"))
	}, check: []string{"mount"}},
	{row: 26, name: "PID 1 hangs", within: time.Minute, reboots: true, once: true, inject: func(t *testing.T, w *world) {
		w.background(t, w.laptop, w.ssh(w.label(), "'cd /sys/fs/cgroup; mkdir frozen; echo 1 > frozen/cgroup.procs; echo 1 > frozen/cgroup.freeze'"))
	}},
	{row: 31, name: "card dead", within: 2 * time.Second, once: true, inject: func(t *testing.T, w *world) {
		w.mustOutput(t, w.ssh(w.label(), "'echo 3 > /proc/sys/vm/drop_caches'"))
		w.monitor(t, "drive_del disk")
	}, check: []string{"uptime", "ip addr", "dmesg", "ps", "free", "'for i in 1 2 3; do echo $i; done | cat'"}},
	{row: 31, name: "card dead, then the worker killed", within: 2 * time.Second,
		inject: func(t *testing.T, w *world) { w.killRole(t, "rescued worker") }, check: []string{"uptime"}},
	{row: 31, name: "card dead, then the holder killed", within: 4 * time.Second,
		inject: func(t *testing.T, w *world) { w.killRole(t, "rescued holder") }, check: []string{"uptime", "ip addr"}},
}

func TestBootFaults(t *testing.T) {
	p := plan{machine: gokrazy.VM, password: updatePassword, clock: time.Unix(0, 0), mayReset: true}
	inBootLab(t, p, func(p plan) {
		w := bootForTest(t, p)
		if console, err := os.ReadFile(w.consoleLog()); err != nil || !strings.Contains(string(console), "1970/01/01") {
			t.Errorf("the guest's clock is set (%v)", err)
		}
		for _, f := range vmFaults {
			t.Run(f.name, func(t *testing.T) {
				injections := 2
				if f.once {
					injections = 1
				}
				for range injections {
					f.run(t, w)
				}
			})
		}
	})
}

// run injects the fault once and logs in until that works.
func (f vmFault) run(t *testing.T, w *world) {
	before := w.bootID(t.Context())
	f.inject(t, w)
	began := time.Now()
	if err := w.await("a login", 2*time.Minute, func(ctx context.Context) (bool, error) {
		now := w.bootID(ctx)
		return now != "" && (!f.reboots || now != before), nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("row %d, %s: logged in after %v (figure to reach: %v)", f.row, f.name, time.Since(began).Round(10*time.Millisecond), f.within)
	for _, command := range f.check {
		if out := w.mustOutput(t, w.ssh(w.label(), command)); out == "" {
			t.Errorf("%s says nothing", command)
		}
	}
	if f.then != nil {
		f.then(t, w)
	}
	if f.incident == "" {
		return
	}
	var out string
	if err := w.await("the incident", time.Minute, func(context.Context) (bool, error) {
		out = w.mustOutput(t, w.ssh(w.label(), "rescue status --incidents"))
		return strings.Contains(out, f.incident), nil
	}); err != nil {
		t.Errorf("%v; the journal is:\n%s", err, out)
	}
}

// answers says whether a login with a command works now.
func (w *world) answers(ctx context.Context) bool { return w.bootID(ctx) != "" }

// bootID logs in and returns the guest's boot ID, "" if that does not work.
func (w *world) bootID(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var out bytes.Buffer
	if err := w.run(ctx, "exec "+w.ssh(w.label(), "cat /proc/sys/kernel/random/boot_id"), &out); err != nil {
		return ""
	}
	return out.String()
}

// background runs a command line for as long as the test at most.
func (w *world) background(t *testing.T, where *linktest.Namespace, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := w.command(ctx, line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := where.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
}

// leaseFrom starts dnsmasq, which leases addresses, and waits until the guest has one.
func (w *world) leaseFrom(t *testing.T, router netip.Addr, leases string) {
	t.Helper()
	if err := w.startDHCP(router, leases); err != nil {
		t.Fatal(err)
	}
	if err := w.await("a lease", 2*time.Minute, func(context.Context) (bool, error) {
		addr, ok, err := w.lease(w.mac())
		return ok && strings.HasPrefix(addr.String(), router.String()[:6]), err
	}); err != nil {
		t.Fatal(err)
	}
}

// monitor tells QEMU something.
func (w *world) monitor(t *testing.T, command string) {
	t.Helper()
	if out, err := w.guest.Monitor(t.Context(), command); err != nil || strings.TrimSpace(out) != "" {
		t.Fatalf("%s: %v %s", command, err, out)
	}
}

// killRole kills the process whose command line says that, such as rescued's holder
// or worker.
func (w *world) killRole(t *testing.T, role string) {
	t.Helper()
	out := w.mustOutput(t, w.ssh(w.label(), "ps"))
	for line := range strings.Lines(out) {
		if strings.Contains(line, role) {
			_ = w.run(t.Context(), w.ssh(w.label(), "kill -9 "+strings.Fields(line)[0]), io.Discard)
			return
		}
	}
	t.Fatalf("there is no %s:\n%s", role, out)
}
