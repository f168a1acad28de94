package main

import (
	"slices"
	"strings"
	"testing"

	"rescue6/rescue/status"
)

// After a repair the listener is asked by a real handshake; if it does not answer,
// though all looks well, the worker starts again, once in a while, and says so.
func TestProbe(t *testing.T) {
	l := newLab(t)
	l.start()
	l.mustLogin(l.label(), "true")
	l.report("a settled link", settled)
	// What goes to an own address goes through the loopback, and only that.
	l.sh("ip link set lo down")
	worker := l.one("rescued", "worker")
	l.sh("ip link set eth0 down")
	l.mustLogin(l.label(), "true")
	r := l.report("a last resort", func(r status.Report) bool { return len(r.Measures) > 0 && r.Restarts > 0 })
	if r.Measures[0].Name != "restart the worker" {
		t.Errorf("measures: %v", r.Measures)
	}
	if now := l.one("rescued", "worker"); now == worker {
		t.Error("the worker is the same process")
	}
	if !slices.ContainsFunc(r.Incidents, func(i status.Incident) bool { return strings.HasPrefix(i.Fault, "SSH does not answer") }) {
		t.Errorf("incidents: %v", r.Incidents)
	}
	l.mustLogin(l.label(), "true")
}
