package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"rescue6/gokrazy"
)

// vmFault is a row of the table of faults that only a whole machine can show.
type vmFault struct {
	row    int
	name   string
	inject func(t *testing.T, w *world)
	within time.Duration // as the table has it; the test allows much more under TCG
	check  []string      // what still works on the guest afterwards
}

// vmFaults come one after the other, on one machine. The last takes its card away.
var vmFaults = []vmFault{
	{row: 2, name: "cable out and in", within: 2 * time.Second, inject: func(t *testing.T, w *world) {
		w.monitor(t, "set_link net0 off")
		if err := w.await("silence", time.Minute, func(ctx context.Context) (bool, error) {
			return !w.answers(ctx), nil
		}); err != nil {
			t.Fatal(err)
		}
		w.monitor(t, "set_link net0 on")
	}},
	{row: 12, name: "worker killed", within: 500 * time.Millisecond, inject: func(t *testing.T, w *world) { w.killRole(t, "worker") }},
	{row: 12, name: "holder killed", within: 2 * time.Second, inject: func(t *testing.T, w *world) { w.killRole(t, "holder") }},
	{row: 31, name: "card dead", within: 2 * time.Second, inject: func(t *testing.T, w *world) {
		w.mustOutput(t, w.ssh(w.label(), "'echo 3 > /proc/sys/vm/drop_caches'"))
		w.monitor(t, "drive_del disk")
	}, check: []string{"uptime", "ip addr", "dmesg", "ps", "free", "'for i in 1 2 3; do echo $i; done | cat'"}},
	{row: 31, name: "card dead, then the worker killed", within: 2 * time.Second, inject: func(t *testing.T, w *world) { w.killRole(t, "worker") },
		check: []string{"uptime"}},
	{row: 31, name: "card dead, then the holder killed", within: 4 * time.Second, inject: func(t *testing.T, w *world) { w.killRole(t, "holder") },
		check: []string{"uptime", "ip addr"}},
}

func TestBootFaults(t *testing.T) {
	inBootLab(t, plan{machine: gokrazy.VM}, func(p plan) {
		w := bootForTest(t, p)
		for _, f := range vmFaults {
			t.Run(f.name, func(t *testing.T) {
				w.mustOutput(t, w.ssh(w.label(), "true"))
				f.inject(t, w)
				began := time.Now()
				err := w.await("a login", 2*time.Minute, func(ctx context.Context) (bool, error) { return w.answers(ctx), nil })
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("row %d, %s: logged in after %v (figure to reach: %v)", f.row, f.name, time.Since(began).Round(10*time.Millisecond), f.within)
				for _, command := range f.check {
					if out := w.mustOutput(t, w.ssh(w.label(), command)); out == "" {
						t.Errorf("%s says nothing", command)
					}
				}
			})
		}
	})
}

// answers says whether a login with a command works now.
func (w *world) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.run(ctx, w.ssh(w.label(), "true"), io.Discard) == nil
}

// monitor tells QEMU something.
func (w *world) monitor(t *testing.T, command string) {
	t.Helper()
	if out, err := w.guest.Monitor(t.Context(), command); err != nil || strings.TrimSpace(out) != "" {
		t.Fatalf("%s: %v %s", command, err, out)
	}
}

// killRole kills rescued's holder or worker.
func (w *world) killRole(t *testing.T, role string) {
	t.Helper()
	out := w.mustOutput(t, w.ssh(w.label(), "ps"))
	for line := range strings.Lines(out) {
		if strings.Contains(line, "rescued "+role) {
			_ = w.run(t.Context(), w.ssh(w.label(), "kill -9 "+strings.Fields(line)[0]), io.Discard)
			return
		}
	}
	t.Fatalf("there is no %s:\n%s", role, out)
}
