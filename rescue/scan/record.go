package scan

import (
	"net/netip"
	"time"

	"rescue6/rescue/identity"
	"rescue6/rescue/scan/oui"
)

// Record is a host as scripts read it, as JSON. Link-local addresses carry their
// zone.
type Record struct {
	Event     string          `json:"event,omitempty"` // "new", "changed" or "gone", with --watch
	Interface string          `json:"interface"`
	MAC       string          `json:"mac"`
	Vendor    string          `json:"vendor"` // see [oui.Lookup]
	Self      bool            `json:"self"`
	Router    bool            `json:"router"`
	Conflict  bool            `json:"conflict,omitempty"` // another claims one of its addresses
	Addresses []AddressRecord `json:"addresses"`
	Names     []string        `json:"names"` // claims, but safe to print
	IPv4      []netip.Addr    `json:"ipv4"`
	Ports     []uint16        `json:"ports,omitempty"`
	SSH       *SSHRecord      `json:"ssh,omitempty"`
	Rescue    *RescueRecord   `json:"rescue,omitempty"` // of an instance
	FirstSeen time.Time       `json:"first_seen"`
	LastSeen  time.Time       `json:"last_seen"`
}

// AddressRecord is one of a host's addresses.
type AddressRecord struct {
	Address string  `json:"address"`
	Scope   string  `json:"scope"` // "link", "private" or "global"
	Via     []Via   `json:"via"`
	RTT     float64 `json:"rtt_ms,omitempty"`
}

// SSHRecord is a server that has proved to own a host key.
type SSHRecord struct {
	Port        uint16 `json:"port"`
	Software    string `json:"software"`
	Fingerprint string `json:"fingerprint"`
	KnownAs     string `json:"known_as,omitempty"` // the own instance with that key
}

// RescueRecord is what is known of an instance.
type RescueRecord struct {
	Name         string `json:"name,omitempty"` // a claim, unless the key is known
	KeyKnown     bool   `json:"key_known"`
	IPv4Dead     bool   `json:"ipv4_dead"` // as it announced, with a valid signature
	LabelAddress string `json:"label_address"`
}

// Record returns a host as scripts read it.
func (h Host) Record() Record {
	r := Record{
		Interface: h.Interface, MAC: h.MAC.String(), Vendor: oui.Lookup(h.MAC), Self: h.Self, Router: h.Router, Conflict: h.Conflict,
		Names: append([]string{}, h.Names...), IPv4: append([]netip.Addr{}, h.IPv4...), Ports: h.Ports,
		FirstSeen: h.First.UTC(), LastSeen: h.Last.UTC(),
	}
	for _, a := range h.Addresses {
		r.Addresses = append(r.Addresses, AddressRecord{a.Addr.String(), a.Scope(), a.Via, float64(a.RTT.Microseconds()) / 1000})
	}
	if h.SSH != nil {
		r.SSH = &SSHRecord{h.SSH.Addr.Port(), h.SSH.Software, h.SSH.Fingerprint(), h.Name}
	}
	if key, ok := h.SSH.Ed25519(); ok && (h.Name != "" || h.SelfConsistent()) {
		r.Rescue = &RescueRecord{Name: h.Name, KeyKnown: h.Name != "", LabelAddress: identity.LabelAddress(key).String()}
	}
	if a := h.Announced; a != nil {
		if r.Rescue == nil {
			r.Rescue = &RescueRecord{Name: a.Hostname, LabelAddress: identity.LabelAddress(a.Key).String()}
		}
		r.Rescue.IPv4Dead = a.IPv4Dead
	}
	return r
}
