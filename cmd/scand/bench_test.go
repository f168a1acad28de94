package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"rescue6/rescue/link/linktest"
	"rescue6/rescue/scan"
)

// BenchmarkIdle is what scand costs beside 200 neighbours, in the ten minutes after
// its first scan, the second scan included.
func BenchmarkIdle(b *testing.B) {
	nodes := min(200, linktest.CrowdRoom(b))
	c := linktest.NewCrowd(b)
	for range nodes {
		c.Add(true)
	}
	d := start(b, c.Laptop, "attic", b.TempDir())
	d.records("all neighbours", func(all []scan.Record) bool { return len(all) == nodes })
	for b.Loop() {
		const lasts = 10*time.Minute + 10*time.Second
		before := cpu(b, d.cmd.Process.Pid)
		time.Sleep(lasts)
		b.ReportMetric(100*(cpu(b, d.cmd.Process.Pid)-before).Seconds()/lasts.Seconds(), "cpu-%")
		b.ReportMetric(float64(rss(b, d.cmd.Process.Pid))/1024, "MB")
		b.ReportMetric(float64(nodes), "neighbours")
		b.ReportMetric(0, "ns/op")
	}
}

// cpu returns the time that a process has used (proc(5)).
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	var sum time.Duration
	for _, t := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		var ns int64
		if _, e := fmt.Sscan(string(text), &ns); err == nil && e == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}

// rss returns the resident memory of a process in KiB.
func rss(b *testing.B, pid int) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	b.Fatal("there is no VmRSS")
	return 0
}
