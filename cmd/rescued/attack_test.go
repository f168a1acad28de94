package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rescue6/rescue/link/linktest"
	"rescue6/rescue/status"
)

// Row 14: a neighbour with 64 addresses opens connections as fast as it can, some
// silent, some with garbage, while another logs in.
func TestFlood(t *testing.T) {
	l := newLab(t)
	bridge, attacker := l.namespace("bridge"), l.namespace("attacker")
	l.run(l.pi, "ip", "link", "del", "eth0")
	l.check(bridge.Bridge("br0"))
	for i, m := range []*linktest.Namespace{l.pi, l.laptop, attacker} {
		port := fmt.Sprint("port", i)
		l.check(linktest.Veth(bridge, port, m, "eth0"))
		l.check(bridge.Attach("br0", port))
	}
	l.run(l.pi, "ip", "link", "set", "eth0", "address", testMAC)
	l.run(l.laptop, "ip", "link", "set", "eth0", "up")
	l.run(attacker, "ip", "link", "set", "eth0", "up")
	var from []netip.Addr
	for i := range 64 {
		a := netip.MustParseAddr(fmt.Sprintf("fe80::bad:%x", i))
		l.run(attacker, "ip", "addr", "add", a.String()+"/64", "dev", "eth0", "nodad")
		from = append(from, a.WithZone("eth0"))
	}
	l.start()
	label := l.label()
	l.mustLogin(label, "true")
	holder, worker := l.one("rescued", "holder"), l.one("rescued", "worker")

	ctx, cancel := context.WithCancel(t.Context())
	var opened atomic.Int64
	var all sync.WaitGroup
	for i := range 8 { // namespaces have one thread: others dial where they are
		all.Go(func() { flood(ctx, attacker, from, i, &opened) })
	}
	began := time.Now()
	slowest := time.Duration(0)
	for range 15 {
		_, took := l.mustLogin(label, "true")
		slowest = max(slowest, took)
	}
	rate := float64(opened.Load()) / time.Since(began).Seconds()
	cancel()
	all.Wait()
	t.Logf("15 logins beside %.0f connections a second: slowest %v", rate, slowest.Round(time.Millisecond))
	if slowest > 20*time.Second {
		t.Errorf("a login took %v", slowest)
	}
	if l.one("rescued", "holder") != holder || l.one("rescued", "worker") != worker {
		t.Error("holder or worker is another process")
	}
	l.mustLogin(label, "true")
}

// flood opens connections from many addresses and keeps the last hundred.
func flood(ctx context.Context, m *linktest.Namespace, from []netip.Addr, seed int, opened *atomic.Int64) {
	var kept []net.Conn
	defer func() {
		for _, c := range kept {
			c.Close()
		}
	}()
	for i := seed; ctx.Err() == nil; i++ {
		var c net.Conn
		err := m.Do(func() (err error) {
			d := net.Dialer{Timeout: 100 * time.Millisecond, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from[i%len(from)], 0))}
			d.SetMultipathTCP(false)
			c, err = d.DialContext(ctx, "tcp6", netip.AddrPortFrom(eui64.WithZone("eth0"), 22).String())
			return err
		})
		if err != nil {
			continue
		}
		opened.Add(1)
		if i%3 == 0 {
			_, _ = c.Write([]byte("SSH-2.0-garbage\r\n\x00\x00\x00\x0c"))
		}
		if kept = append(kept, c); len(kept) > 100 {
			kept[0].Close()
			kept = kept[1:]
		}
	}
}

// Row 15: the worker has no descriptor left. It must not spin, and goes on as soon as
// there are some.
func TestOutOfDescriptors(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(l.label(), "true")
	worker := l.one("rescued", "worker")
	l.spare()
	limit := 0
	for free := 0; free < 6; limit++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", worker, limit)); err != nil {
			free++
		}
	}
	var old unix.Rlimit
	l.check(unix.Prlimit(worker, unix.RLIMIT_NOFILE, nil, &old))
	l.check(unix.Prlimit(worker, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}, nil))
	// What is free below the limit is taken by connections that say nothing.
	var silent []net.Conn
	defer func() {
		for _, c := range silent {
			c.Close()
		}
	}()
	for range 20 { // fewer than are let in
		_ = l.laptop.Do(func() error {
			c, err := net.DialTimeout("tcp6", netip.AddrPortFrom(eui64.WithZone("eth0"), 22).String(), time.Second)
			if err == nil {
				silent = append(silent, c)
			}
			return err
		})
	}
	before, began := cpuTime(t, worker), time.Now()
	_, took := l.mustLogin(eui64, "true")
	t.Logf("logged in after %v", took.Round(time.Millisecond))
	if used := cpuTime(t, worker) - before; used > time.Second+time.Since(began)/4 {
		t.Errorf("the worker used %v in %v: it spins", used, time.Since(began))
	}
	l.check(unix.Prlimit(worker, unix.RLIMIT_NOFILE, &old, nil))
	l.report("an incident", func(r status.Report) bool { return noted(r, "no file descriptors are left") > 0 })
	if l.one("rescued", "worker") != worker {
		t.Error("the worker is another process")
	}
}

// Row 16: no process can be made. The warm spare serves a login, and what the shell
// has itself runs in it.
func TestOutOfProcesses(t *testing.T) {
	l := newLab(t)
	group, err := newGroup(t)
	if err != nil {
		t.Skipf("no pids cgroup can be made here: %v", err)
	}
	l.start()
	label := l.label()
	l.mustLogin(label, "true")
	l.spare()
	for _, role := range []string{"holder", "worker"} {
		l.check(group.add(l.one("rescued", role)))
	}
	l.check(group.add(l.spare()))
	l.check(group.limit())
	out, err := l.login(label, "echo", "alive")
	if err != nil || out != "alive\n" {
		t.Errorf("with no process to be had: %q, %v", out, err)
	}
	l.check(group.unlimit())
	_, took := l.mustLogin(label, "true")
	t.Logf("afterwards: logged in after %v", took.Round(time.Millisecond))
	l.report("a warm spare", func(r status.Report) bool { return r.Spare.Ready })
}
