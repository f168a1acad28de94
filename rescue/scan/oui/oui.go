// Package oui tells who makes a network interface, by the first 24, 28 or 36 bits of
// its MAC address.
package oui

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"sync"
)

//go:generate go run generate.go

// assigned holds a line for each block that the IEEE has assigned, sorted: its
// hexadecimal digits (6, 7 or 9), a tab, and the organization's name.
//
//go:embed assigned.gz
var assigned []byte

var table = sync.OnceValue(func() string {
	r, err := gzip.NewReader(bytes.NewReader(assigned))
	if err != nil {
		panic(err) // it is ours
	}
	b, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	return string(b)
})

// local are blocks that nobody was assigned, but that everybody uses for the same.
var local = map[string]string{
	"525400": "QEMU virtual NIC",
}

// Random is what [Lookup] returns for an address that was made up, as phones do,
// and virtual machines (IEEE 802, the U/L bit).
const Random = "random or local"

// Lookup returns the name of the organization that a MAC address was assigned to:
// the longest block counts. It returns [Random] for a locally administered one, and
// "" if it is not known. It takes some milliseconds the first time.
func Lookup(mac net.HardwareAddr) string {
	if len(mac) != 6 {
		return ""
	}
	digits := fmt.Sprintf("%X", []byte(mac))
	if name, ok := local[digits[:6]]; ok {
		return name
	}
	if mac[0]&2 != 0 {
		return Random
	}
	for _, n := range []int{9, 7, 6} {
		if name := find(table(), digits[:n]+"\t"); name != "" {
			return name
		}
	}
	return ""
}

// find returns what follows key in the line that begins with it.
func find(lines, key string) string {
	// The first line that is not before the key: positions are those of bytes, each
	// standing for the line that begins at or after it.
	start := func(i int) int {
		if i == 0 {
			return 0
		}
		n := strings.IndexByte(lines[i-1:], '\n')
		if n < 0 {
			return len(lines)
		}
		return i + n
	}
	at := start(sort.Search(len(lines), func(i int) bool { return lines[start(i):] >= key }))
	rest, ok := strings.CutPrefix(lines[at:], key)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "\n")
	return name
}
