package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rescue6/rescue/identity"
	"rescue6/rescue/scan"
	"rescue6/rescue/scan/oui"
)

// showJSON prints one object per line.
func showJSON(w io.Writer, hosts []scan.Host) error {
	enc := json.NewEncoder(w)
	for _, h := range hosts {
		if err := enc.Encode(jsonHost(h)); err != nil {
			return err
		}
	}
	return nil
}

// What scripts read. Addresses carry their zone.
type (
	hostJSON struct {
		Event     string        `json:"event,omitempty"` // "new", "changed" or "gone", with --watch
		Interface string        `json:"interface"`
		MAC       string        `json:"mac"`
		Vendor    string        `json:"vendor"`
		Self      bool          `json:"self"`
		Router    bool          `json:"router"`
		Conflict  bool          `json:"conflict,omitempty"`
		Addresses []addressJSON `json:"addresses"`
		Names     []string      `json:"names"`
		IPv4      []netip.Addr  `json:"ipv4"`
		Ports     []uint16      `json:"ports,omitempty"`
		SSH       *sshJSON      `json:"ssh,omitempty"`
		Rescue    *rescueJSON   `json:"rescue,omitempty"`
		FirstSeen time.Time     `json:"first_seen"`
		LastSeen  time.Time     `json:"last_seen"`
	}
	addressJSON struct {
		Address string     `json:"address"`
		Scope   string     `json:"scope"`
		Via     []scan.Via `json:"via"`
		RTT     float64    `json:"rtt_ms,omitempty"`
	}
	sshJSON struct {
		Port        uint16 `json:"port"`
		Software    string `json:"software"`
		Fingerprint string `json:"fingerprint"`
		KnownAs     string `json:"known_as,omitempty"`
	}
	rescueJSON struct {
		Name         string `json:"name,omitempty"`
		KeyKnown     bool   `json:"key_known"`
		IPv4Dead     bool   `json:"ipv4_dead"`
		LabelAddress string `json:"label_address"`
	}
)

func jsonHost(h scan.Host) hostJSON {
	o := hostJSON{
		Interface: h.Interface, MAC: h.MAC.String(), Vendor: oui.Lookup(h.MAC), Self: h.Self, Router: h.Router, Conflict: h.Conflict,
		Names: append([]string{}, h.Names...), IPv4: append([]netip.Addr{}, h.IPv4...), Ports: h.Ports,
		FirstSeen: h.First.UTC(), LastSeen: h.Last.UTC(),
	}
	for _, a := range h.Addresses {
		o.Addresses = append(o.Addresses, addressJSON{a.Addr.String(), a.Scope(), a.Via, milliseconds(a.RTT)})
	}
	if h.SSH != nil {
		o.SSH = &sshJSON{h.SSH.Addr.Port(), h.SSH.Software, h.SSH.Fingerprint(), h.Name}
	}
	if key, ok := h.SSH.Ed25519(); ok && (h.Name != "" || h.SelfConsistent()) {
		o.Rescue = &rescueJSON{Name: h.Name, KeyKnown: h.Name != "", LabelAddress: identity.LabelAddress(key).String()}
	}
	if a := h.Announced; a != nil {
		if o.Rescue == nil {
			o.Rescue = &rescueJSON{Name: a.Hostname, LabelAddress: identity.LabelAddress(a.Key).String()}
		}
		o.Rescue.IPv4Dead = a.IPv4Dead
	}
	return o
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
