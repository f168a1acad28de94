package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rescue6/rescue/status"
)

// In a container whose /proc/sys cannot be written, what needs no sysctl is done,
// and the rest is said once.
func TestReadOnlySysctls(t *testing.T) {
	l := newLab(t)
	l.sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/addr_gen_mode")
	l.wrapper = []string{"unshare", "-m", "sh", "-ec",
		`mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$0" "$@"`}
	l.start()
	l.mustLogin(l.label(), "true")
	l.report("the fault", func(r status.Report) bool { return len(r.Links) == 1 && len(r.Links[0].LinkLocal) > 0 })
	time.Sleep(3 * time.Second) // the repair is tried again and again meanwhile
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := strings.Count(l.out.String(), "read-only file system"); n < 1 || n > 6 {
		t.Errorf("the log says %d times that the file system is read-only:\n%s", n, l.out.String())
	}
}

// A network card that comes late is served when it comes, and nothing is said while
// there is none.
func TestLateLink(t *testing.T) {
	l := newLab(t)
	l.sh("ip link del eth0")
	l.start()
	r := l.report("no link", func(r status.Report) bool { return len(r.Links) == 0 })
	if len(r.Incidents) != 0 {
		t.Errorf("incidents: %v", r.Incidents)
	}
	l.plug()
	_, took := l.mustLogin(r.Label, "true")
	t.Logf("logged in %v after the link came", took.Round(time.Millisecond))
	r = l.report("who has connected", func(r status.Report) bool { return len(r.Links) == 1 && r.Links[0].Heard > 0 })
	if len(r.Incidents) != 0 {
		t.Errorf("incidents: %v", r.Incidents)
	}
}

// Row 24: IPv4 addresses that come and go all the time, as with leases of one
// second, do not touch the way in.
func TestAddressChurn(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(l.label(), "true")
	ctx, cancel := context.WithCancel(t.Context())
	churn := exec.CommandContext(ctx, "sh", "-c",
		"while :; do for i in $(seq 1 50); do echo addr add 192.0.2.$i/24 dev eth0; echo addr del 192.0.2.$i/24 dev eth0; done | ip -batch -; done")
	l.check(l.pi.Start(churn))
	defer func() {
		cancel()
		_ = churn.Wait()
	}()
	for range 10 {
		if _, took := l.mustLogin(l.label(), "true"); took > 5*time.Second {
			t.Errorf("a login took %v", took)
		}
	}
}
