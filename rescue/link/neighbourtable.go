//go:build linux

package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// maxNeighbours bounds what [RaiseNeighbourTable] allows, in entries of about
// 0.4 kB each: the neighbours decide how many they are.
const maxNeighbours = 16384

// NeighbourTableFulls returns how often the kernel had no room for another IPv6
// neighbour since it booted: table_fulls of /proc/net/stat/ndisc_cache, summed over
// the CPUs. It is 0 where the kernel does not count.
func NeighbourTableFulls() (uint64, error) {
	b, err := os.ReadFile("/proc/net/stat/ndisc_cache")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the neighbour table's counters: %w", err)
	}
	return parseTableFulls(string(b))
}

// parseTableFulls adds up one column of a table in hexadecimal, with a heading and
// a line for each CPU.
func parseTableFulls(text string) (uint64, error) {
	heading, rows, _ := strings.Cut(text, "\n")
	column := -1
	for i, name := range strings.Fields(heading) {
		if name == "table_fulls" {
			column = i
		}
	}
	if column < 0 {
		return 0, nil // Linux before 3.17
	}
	var sum uint64
	for row := range strings.Lines(rows) {
		f := strings.Fields(row)
		if len(f) <= column {
			return 0, fmt.Errorf("reading the neighbour table's counters: a line of %d columns instead of %d", len(f), column+1)
		}
		n, err := strconv.ParseUint(f[column], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the neighbour table's counters: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// RaiseNeighbourTable doubles the room for IPv6 neighbours (gc_thresh3, at least
// 1024 and at most 16384 entries) and returns it. Below half of it the kernel keeps
// neighbours that are silent for longer than 5 s, and below a quarter all. The
// thresholds are the system's and cannot be set from a network namespace: the error
// is then one of [fs.ErrNotExist].
func RaiseNeighbourTable() (int, error) {
	const dir = ipv6Sysctls + "/neigh/default/"
	b, err := os.ReadFile(dir + "gc_thresh3")
	if err != nil {
		return 0, fmt.Errorf("reading the size of the neighbour table: %w", err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("reading the size of the neighbour table: %w", err)
	}
	if now >= maxNeighbours {
		return now, nil
	}
	want := min(max(2*now, 1024), maxNeighbours)
	for _, s := range []struct {
		name  string
		value int
	}{{"gc_thresh3", want}, {"gc_thresh2", want / 2}, {"gc_thresh1", want / 4}} {
		if err := os.WriteFile(dir+s.name, []byte(strconv.Itoa(s.value)), 0); err != nil {
			return now, fmt.Errorf("enlarging the neighbour table: %w", err)
		}
	}
	return want, nil
}
