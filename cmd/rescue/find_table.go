package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"rescue6/rescue/scan"
	"rescue6/rescue/scan/oui"
)

// showTable prints what was found, and as the last line the command that logs in.
func showTable(w io.Writer, hosts []scan.Host, silent []scan.Record, all bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tADDRESS\tMAC\tVENDOR\tRTT\tSSH\tSEEN BY")
	login := ""
	for _, h := range hosts {
		writeRow(t, h)
		if login == "" && h.SSH != nil && !h.Self {
			login = "ssh root@" + h.Addresses[0].Addr.String()
			if port := h.SSH.Addr.Port(); port != 22 {
				login = fmt.Sprintf("ssh -p %d root@%s", port, h.Addresses[0].Addr)
			}
			if h.Name != "" {
				login = "rescue ssh " + h.Name
			}
		}
	}
	for _, r := range silent {
		name := ""
		if r.Rescue != nil && r.Rescue.Name != "" {
			name = fmt.Sprintf("%q", r.Rescue.Name)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\t\tsilent, last seen %s ago\n", name, r.Addresses[0].Address, r.MAC, r.Vendor, time.Since(r.LastSeen).Round(time.Second))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if all {
		if err := showPrefixes(w, hosts); err != nil {
			return err
		}
	}
	if login != "" {
		fmt.Fprintf(w, "\n%s\n", login)
	}
	return nil
}

// writeRow prints a host: the address to type, and in lines of their own its other
// link-local addresses, IPv4 addresses and open ports.
func writeRow(w io.Writer, h scan.Host) {
	said := ""
	if h.SSH != nil {
		said = h.SSH.Software + " " + h.SSH.Fingerprint()
		switch {
		case h.Name != "":
			said += " yours"
		case h.SelfConsistent():
			said += " self-consistent"
		}
	}
	for i, a := range h.Addresses {
		if i > 0 && a.Scope() != "link" {
			continue
		}
		rtt := ""
		if a.RTT > 0 && !h.Self {
			rtt = fmt.Sprintf("%.1f ms", milliseconds(a.RTT))
		}
		if i > 0 {
			fmt.Fprintf(w, "\t%s\t\t\t%s\t\t%s\n", a.Addr, rtt, seenBy(a.Via))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shownName(h), a.Addr, h.MAC, vendor(h), rtt, said, seenBy(a.Via))
	}
	for _, a := range h.IPv4 {
		fmt.Fprintf(w, "\t%s\t\t\t\t\tarp\n", a)
	}
	if len(h.Ports) > 0 {
		fmt.Fprintf(w, "\topen: %s\t\t\t\t\t\n", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(h.Ports)), ", "), "[]"))
	}
}

// shownName is what a host is called: an own instance by its name, others as they
// say, in quotes.
func shownName(h scan.Host) string {
	switch {
	case h.Self:
		return "(this machine)"
	case h.Name != "":
		return h.Name
	case h.Announced != nil && h.Announced.Hostname != "":
		return fmt.Sprintf("%q", h.Announced.Hostname)
	case len(h.Names) > 0:
		return fmt.Sprintf("%q", h.Names[0])
	case h.Router:
		return "(router)"
	}
	return ""
}

func vendor(h scan.Host) string {
	const most = 24
	v := oui.Lookup(h.MAC)
	return v[:min(len(v), most)]
}

func seenBy(via []scan.Via) string {
	var all []string
	for _, v := range via {
		all = append(all, string(v))
	}
	return strings.Join(all, " ")
}

// showPrefixes prints all addresses that are not link-local, by prefix.
func showPrefixes(w io.Writer, hosts []scan.Host) error {
	const bits = 64 // RFC 4291 §2.5.1
	by := map[netip.Prefix][]string{}
	for _, h := range hosts {
		for _, a := range h.Addresses {
			if a.Scope() == "link" {
				continue
			}
			p := netip.PrefixFrom(a.Addr, bits).Masked()
			line := fmt.Sprintf("  %s  %s  %s", a.Addr, h.MAC, shownName(h))
			by[p] = append(by[p], strings.TrimRight(line, " "))
		}
	}
	prefixes := make([]netip.Prefix, 0, len(by))
	for p := range by {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, p := range prefixes {
		fmt.Fprintf(w, "\n%s\n", p)
		for _, line := range by[p] {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// streamed shows hosts on a terminal as soon as they are found, until the sorted
// table takes their place. A nil one, and one that is no terminal, shows nothing.
type streamed struct {
	w      *os.File
	rows   int
	height int
}

func stream(w io.Writer) *streamed {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &streamed{}
	}
	_, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return &streamed{}
	}
	return &streamed{w: f, height: height}
}

// show shows a host, as long as there is room to take it back.
func (s *streamed) show(addr, mac string) {
	if s.w == nil || s.rows >= s.height-2 {
		return
	}
	s.rows++
	fmt.Fprintf(s.w, "%s  %s\n", addr, mac)
}

// erase takes back what was shown (ECMA-48: CUU, ED).
func (s *streamed) erase() {
	if s != nil && s.rows > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.rows)
	}
}
