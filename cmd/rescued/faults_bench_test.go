package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// never is how long the bench waits for a login.
const never = 60 * time.Second

// BenchmarkFaults is the time from each fault to a completed login over fe80, at its
// 95th percentile over ten runs (three of those that may take long), and for the faults that concern gokrazy's breakglass,
// too, its time in a namespace of its own. 60 s stand for never.
func BenchmarkFaults(b *testing.B) {
	for _, f := range faults {
		b.Run(fmt.Sprintf("%02d %s", f.row, f.name), func(b *testing.B) {
			for b.Loop() {
				all := rescue6Faults(b, f)
				slices.Sort(all)
				b.ReportMetric(all[len(all)*95/100].Seconds(), "rescue6-s")
				b.ReportMetric(f.within.Seconds(), "target-s")
				if f.others {
					b.ReportMetric(breakglassFault(b, f).Seconds(), "breakglass-s")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func rescue6Faults(b *testing.B, f fault) (all []time.Duration) {
	n := 10
	switch {
	case f.row == 9:
		n = 1 // the lab is another afterwards
	case f.within >= 5*time.Second:
		n = 3
	}
	l := newLab(b)
	l.start()
	l.mustLogin(l.label(), "true")
	for range n {
		l.report("a settled link", settled)
		label := l.label()
		began := time.Now()
		f.inject(l)
		if !l.firstLogin(22, label) {
			b.Fatalf("%s: no login within %v", f.name, never)
		}
		all = append(all, time.Since(began))
	}
	return all
}

func breakglassFault(b *testing.B, f fault) time.Duration {
	l := newLab(b)
	l.run(l.pi, "ip", "link", "set", "eth0", "up")
	_, err := l.pi.LinkLocal(b.Context(), "eth0")
	l.check(err)
	l.startBreakglass(2201)
	if !l.firstLogin(2201, eui64) {
		b.Fatal("breakglass does not answer before any fault")
	}
	began := time.Now()
	f.inject(l)
	l.firstLogin(2201, eui64)
	return time.Since(began)
}

// firstLogin starts an ssh ten times a second, so that none waits for what TCP
// repeats after a second, until one has logged in.
func (l *lab) firstLogin(port int, addr netip.Addr) bool {
	ctx, cancel := context.WithTimeout(l.t.Context(), never)
	defer cancel()
	worked := make(chan struct{}, 1)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		argv := l.sshPort(port, addr, "true")
		cmd := exec.CommandContext(ctx, argv[0], append([]string{"-o", fmt.Sprint("HostKeyAlias=p", port)}, argv[1:]...)...)
		if err := l.laptop.Start(cmd); err == nil {
			all.Go(func() {
				if cmd.Wait() == nil {
					select {
					case worked <- struct{}{}:
					default:
					}
				}
			})
		}
		select {
		case <-worked:
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
