// Package status holds what an instance says about itself: one value that
// rescued fills and everything else shows, as text, as JSON, or as the few lines
// that greet a login. It knows nothing of the kernel; the control socket, over
// which the value travels, is its only door.
package status

import (
	"net/netip"
	"time"
)

// Report is the whole state of one instance. It is what the control socket
// sends, as one JSON object.
type Report struct {
	Hostname string     `json:"hostname"`
	BootID   string     `json:"boot_id"`  // of its announcements, in hexadecimal
	HostKey  string     `json:"host_key"` // fingerprint, "SHA256:…"
	Label    netip.Addr `json:"label_address"`

	// Uptime is how long the worker has been running, and Restarts how often
	// the holder had to start another one. Both come from the monotonic clock:
	// a Pi without network believes it is 1970.
	Uptime   time.Duration `json:"uptime_ns"`
	Restarts int           `json:"worker_restarts"`

	Listener      Listener      `json:"listener"`
	Spare         Spare         `json:"spare"`
	Sessions      []Session     `json:"sessions"`
	Links         []Link        `json:"links"`
	Announcements Announcements `json:"announcements"`
	Measures      []Measure     `json:"measures"`  // last resorts, each when it was taken last
	Incidents     []Incident    `json:"incidents"` // newest last
}

// Measure is a last resort that was taken.
type Measure struct {
	Name string        `json:"name"`
	Ago  time.Duration `json:"ago_ns"`
}

// Listener is the SSH listener.
type Listener struct {
	Port     int    `json:"port"`
	Scope    string `json:"scope"`    // "link": only link-local destinations are answered
	Accepted uint64 `json:"accepted"` // connections since the worker started
	Refused  uint64 `json:"refused"`  // closed at once, for want of a share
}

// Spare is the session process that waits for the next connection.
type Spare struct {
	PID      int    `json:"pid"`
	Ready    bool   `json:"ready"`
	RSSKiB   int    `json:"rss_kib"`
	WarmHits uint64 `json:"warm_hits"` // connections that found it ready
	Cold     uint64 `json:"cold"`      // connections that had to wait for a process
}

// Session is one SSH connection and the process that serves it.
type Session struct {
	PID    int            `json:"pid"`
	Peer   netip.AddrPort `json:"peer"`
	Local  netip.AddrPort `json:"local"`
	State  string         `json:"state"` // "kex", "auth" or "open"
	Age    time.Duration  `json:"age_ns"`
	User   string         `json:"user,omitempty"`
	KeySHA string         `json:"key,omitempty"` // fingerprint of the key that logged in
}

// Link is one network interface, as the kernel shows it.
type Link struct {
	Name      string         `json:"name"`
	Index     int            `json:"index"`
	MAC       string         `json:"mac"`
	Kind      string         `json:"kind"`
	Served    bool           `json:"served"`           // whether rescued keeps it reachable
	Why       string         `json:"why,omitempty"`    // why it is not served
	Up        bool           `json:"up"`               // administratively
	Carrier   bool           `json:"carrier"`          // RFC 2863 lower layer
	LinkLocal []Address      `json:"link_local"`       // IPv6 link-local addresses
	Global    []netip.Prefix `json:"global,omitempty"` // other IPv6 addresses
	IPv4      []netip.Prefix `json:"ipv4"`
	Gateway4  []netip.Addr   `json:"ipv4_gateways,omitempty"`
	// Heard is how long ago another node connected through this link; 0 if none has
	// since the worker started. It tells what the own probe cannot see.
	Heard time.Duration `json:"heard_ago_ns,omitempty"`
}

// Address is one link-local address of a link.
type Address struct {
	Addr   netip.Addr `json:"address"`
	Label  bool       `json:"label"`  // it is the label address
	Usable bool       `json:"usable"` // neither tentative nor failed
	State  string     `json:"state"`  // "preferred", "tentative", "dadfailed"
}

// Announcements counts the Neighbor Advertisements that went out.
type Announcements struct {
	Sent   uint64        `json:"sent"`
	Failed uint64        `json:"failed"`
	Last   time.Duration `json:"last_ago_ns"` // since the last one; 0 if there was none
}

// Incident is one thing that was wrong.
type Incident struct {
	Fault     string        `json:"fault"`          // what was wrong, in a few words
	Link      string        `json:"link,omitempty"` // where
	Since     time.Duration `json:"since_ns"`       // how long ago it was seen
	Repairs   int           `json:"repairs"`        // how often a repair was tried
	Last      string        `json:"last,omitempty"` // the last repair and its error, if any
	Recovered bool          `json:"recovered"`
	After     time.Duration `json:"after_ns,omitempty"` // from seen to recovered
	// EarlierBoot says that it was before the last reboot: Since is 0 then, and
	// When the time by the clock, if that was set.
	EarlierBoot bool      `json:"earlier_boot,omitempty"`
	When        time.Time `json:"when,omitzero"`
}

// IPv4Dead says whether no served link with a carrier has both an IPv4 address
// that reaches beyond the link (RFC 3927 addresses do not) and a gateway. It is
// decided from what the kernel has configured, so a lease that expired without
// being removed still counts as alive; only a probe could tell.
func (r Report) IPv4Dead() bool {
	for _, l := range r.Links {
		if l.Served && l.Carrier && l.HasIPv4() && len(l.Gateway4) > 0 {
			return false
		}
	}
	return true
}

// HasIPv4 says whether the link has an IPv4 address other than a self-assigned
// one (169.254/16, RFC 3927).
func (l Link) HasIPv4() bool {
	for _, p := range l.IPv4 {
		if !p.Addr().IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}
