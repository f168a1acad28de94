package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText shows the whole report to a person.
func (r Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("instance", "%s", r.Hostname)
	row("host key", "%s", r.HostKey)
	row("label address", "%s", r.Label)
	row("listener", "port %d, scope %s, %d connections, %d refused", r.Listener.Port, r.Listener.Scope, r.Listener.Accepted, r.Listener.Refused)
	row("spare", "%s", r.Spare)
	row("announcements", "%s", r.Announcements)
	row("worker", "up %s, restarted %d times", round(r.Uptime), r.Restarts)
	for _, p := range r.Problems() {
		row("problem", "%s", p)
	}
	for _, m := range r.Measures {
		row("last resort", "%s, %s ago", m.Name, round(m.Ago))
	}
	for _, s := range r.Sessions {
		row("session", "%s", s)
	}
	for _, l := range r.Links {
		row("link "+l.Name, "%s", l)
		for _, a := range l.LinkLocal {
			row("", "%s", a.text(l.Name))
		}
		for _, p := range l.IPv4 {
			row("", "%s", p)
		}
	}
	if n := len(r.Incidents); n > 0 {
		row("incidents", "%d, newest: %s", n, r.Incidents[n-1])
	}
	return t.Flush()
}

// WriteIncidents shows all incidents, oldest first.
func (r Report) WriteIncidents(w io.Writer) error {
	for _, i := range r.Incidents {
		if _, err := fmt.Fprintln(w, i); err != nil {
			return err
		}
	}
	return nil
}

// Problems returns what is wrong with the network, one short line each, worst
// first; nothing if all is well. They greet whoever logs in.
func (r Report) Problems() []string {
	var all []string
	served := 0
	for _, l := range r.Links {
		if !l.Served {
			continue
		}
		served++
		switch {
		case !l.Up:
			all = append(all, fmt.Sprintf("%s is down", l.Name))
		case !l.Carrier:
			all = append(all, fmt.Sprintf("%s has no carrier: no cable, or nothing at its other end", l.Name))
		case !l.HasIPv4() && len(l.IPv4) > 0:
			all = append(all, fmt.Sprintf("%s has a self-assigned IPv4 address only (%s): no DHCP server answered", l.Name, l.IPv4[0].Addr()))
		case !l.HasIPv4():
			all = append(all, fmt.Sprintf("%s has no IPv4 address: no DHCP lease, or it was removed", l.Name))
		case len(l.Gateway4) == 0:
			all = append(all, fmt.Sprintf("%s has IPv4 address %s but no IPv4 gateway", l.Name, l.IPv4[0]))
		}
		for _, a := range l.LinkLocal {
			if a.State == "dadfailed" {
				all = append(all, fmt.Sprintf("%s: a neighbour claims %s", l.Name, a.Addr))
			}
		}
	}
	if served == 0 {
		all = append(all, "there is no network interface that could be served")
	}
	for _, i := range r.Incidents {
		if !i.Recovered && !i.EarlierBoot {
			all = append(all, i.String())
		}
	}
	return all
}

// Greeting is what a login sees before its first prompt.
func (r Report) Greeting() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: rescue6, label address %s\n", r.Hostname, r.Label)
	problems := r.Problems()
	if len(problems) == 0 {
		fmt.Fprintln(&b, "The network looks fine from here.")
	}
	if len(problems) > 0 && r.IPv4Dead() {
		fmt.Fprintln(&b, "IPv4 is dead:")
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	if n := len(r.Incidents); n > 0 {
		fmt.Fprintf(&b, "%d incidents are noted: 'rescue status --incidents' shows them.\n", n)
	}
	return b.String()
}

func (s Spare) String() string {
	switch {
	case s.PID == 0:
		return "none"
	case !s.Ready:
		return fmt.Sprintf("starting, pid %d", s.PID)
	}
	return fmt.Sprintf("warm, pid %d, %.1f MB; %d warm logins, %d cold", s.PID, float64(s.RSSKiB)/1024, s.WarmHits, s.Cold)
}

func (a Announcements) String() string {
	if a.Sent == 0 && a.Failed == 0 {
		return "none yet"
	}
	return fmt.Sprintf("%d sent, %d failed, last %s ago", a.Sent, a.Failed, round(a.Last))
}

func (s Session) String() string {
	who := ""
	if s.User != "" {
		who = fmt.Sprintf(", %s with %s", s.User, s.KeySHA)
	}
	return fmt.Sprintf("%s, from %s, pid %d, %s%s", s.State, s.Peer, s.PID, round(s.Age), who)
}

func (l Link) String() string {
	state := "up"
	switch {
	case !l.Up:
		state = "down"
	case !l.Carrier:
		state = "no carrier"
	}
	if !l.Served {
		state += ", not served: " + l.Why
	}
	if l.Heard > 0 {
		state += fmt.Sprintf(", last connection from another node %s ago", round(l.Heard))
	}
	return strings.TrimSpace(l.MAC + " " + state)
}

func (a Address) text(zone string) string {
	s := a.Addr.WithZone(zone).String()
	if a.Label {
		s += " (label)"
	}
	if !a.Usable {
		s += " " + a.State
	}
	return s
}

// String tells one incident in one line.
func (i Incident) String() string {
	s := i.Fault
	if i.Link != "" {
		s = i.Link + ": " + s
	}
	switch {
	case i.EarlierBoot && i.When.IsZero():
		s += ", before the last boot"
	case i.EarlierBoot:
		s += ", " + i.When.Format("2006-01-02 15:04 MST")
	case i.Recovered:
		s += fmt.Sprintf(", %s ago", round(i.Since))
	default:
		s += fmt.Sprintf(", since %s", round(i.Since))
	}
	if i.Recovered && i.After > 0 {
		s += fmt.Sprintf(", for %s", round(i.After))
	}
	if i.Repairs > 0 {
		s += fmt.Sprintf(", %d repairs, last: %s", i.Repairs, i.Last)
	}
	return s
}

// round makes a duration short to read.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	default:
		return d.Round(time.Millisecond)
	}
}
