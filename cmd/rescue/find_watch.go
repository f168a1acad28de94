package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"rescue6/rescue/scan"
)

// watchEvery is the pause between the scans of --watch, and goneAfter how many in a
// row have to miss a host until it counts as gone: multicasts get lost on Wi-Fi.
const (
	watchEvery = 10 * time.Second
	goneAfter  = 3
)

// watched is a host as it was seen last.
type watched struct {
	scan.Host
	missed int
}

// watch scans again and again and tells what is different, until ctx ends or
// nobody reads any more.
func watch(ctx context.Context, o findOptions, c scan.Config, w io.Writer) error {
	known := map[string]*watched{}
	for {
		r, err := findHosts(ctx, o, c)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range compare(known, r.Hosts) {
			if err := e.print(w, o.json); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// event is a difference.
type event struct {
	what string // "new", "changed" or "gone"
	host scan.Host
}

// compare brings known up to date with a scan and returns what is different.
func compare(known map[string]*watched, hosts []scan.Host) []event {
	var events []event
	for _, k := range known {
		k.missed++
	}
	for _, h := range hosts {
		id := h.Interface + " " + h.MAC.String()
		if h.MAC == nil {
			id += h.Addresses[0].Addr.String()
		}
		k, ok := known[id]
		if !ok {
			known[id] = &watched{Host: h}
			events = append(events, event{"new", h})
			continue
		}
		h.First = k.First
		if difference(k.Host, h) {
			events = append(events, event{"changed", h})
		}
		*k = watched{Host: h}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if k := known[id]; k.missed >= goneAfter {
			delete(known, id)
			events = append(events, event{"gone", k.Host})
		}
	}
	return events
}

// difference says whether somebody would want to know: another name, another key,
// or addresses that were not there. One that does not answer once is none.
func difference(a, b scan.Host) bool {
	if a.Name != b.Name || (a.SSH == nil) != (b.SSH == nil) || a.SSH != nil && a.SSH.Fingerprint() != b.SSH.Fingerprint() {
		return true
	}
	return slices.ContainsFunc(b.Addresses, func(n scan.Address) bool {
		return !slices.ContainsFunc(a.Addresses, func(o scan.Address) bool { return o.Addr == n.Addr })
	})
}

func (e event) print(w io.Writer, asJSON bool) error {
	if asJSON {
		o := e.host.Record()
		o.Event = e.what
		return json.NewEncoder(w).Encode(o)
	}
	line := fmt.Sprintf("%s %-7s %s  %s  %s  %s", time.Now().Format(time.TimeOnly), e.what, e.host.Addresses[0].Addr, e.host.MAC, vendor(e.host), shownName(e.host))
	_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
	return err
}
