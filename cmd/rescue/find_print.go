package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rescue6/rescue/scan"
	"rescue6/rescue/scan/oui"
)

// showJSON prints one object per line.
func showJSON(w io.Writer, hosts []scan.Host, silent []scan.Record) error {
	enc := json.NewEncoder(w)
	for _, h := range hosts {
		if err := enc.Encode(h.Record()); err != nil {
			return err
		}
	}
	for _, r := range silent {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// showAddresses prints the address to type of each host but this one.
func showAddresses(w io.Writer, hosts []scan.Host) error {
	for _, h := range hosts {
		if h.Self {
			continue
		}
		if _, err := fmt.Fprintln(w, h.Addresses[0].Addr); err != nil {
			return err
		}
	}
	return nil
}

// showZone prints the AAAA records of a zone file (RFC 1035 §5.1, RFC 3596 §2) for
// the global and private addresses of hosts that have a name.
func showZone(w io.Writer, hosts []scan.Host, domain string) error {
	domain = strings.TrimSuffix(domain, ".")
	for _, h := range hosts {
		name := h.Name
		if name == "" && len(h.Names) > 0 {
			name, _, _ = strings.Cut(h.Names[0], ".")
		}
		comment := ""
		if !validDomain(name) {
			// Something to replace by hand.
			name, comment = "host-"+strings.ReplaceAll(h.MAC.String(), ":", ""), " ; "+oui.Lookup(h.MAC)
		}
		for _, a := range h.Addresses {
			if a.Scope() == "link" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s.%s. IN AAAA %s%s\n", name, domain, a.Addr, comment); err != nil {
				return err
			}
		}
	}
	return nil
}

// validDomain says whether each label of a name is one of a host's (RFC 1123 §2.1).
func validDomain(name string) bool {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	return len(name) <= 253 && !slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") ||
			strings.ContainsFunc(l, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
			})
	})
}
