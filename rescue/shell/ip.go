package shell

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"rescue6/rescue/link"
)

const ipUsage = usageError("usage: ip addr | ip link | ip route | ip neigh | ip link set IF up|down | ip addr add|del ADDRESS/LENGTH dev IF | ip route add|del default via GATEWAY dev IF; -j for JSON")

// ip shows links, addresses and routes, and changes what a person needs to mend a
// network. It reads what rescued reads.
func ip(_ context.Context, s stdio, args []string) error {
	asJSON := false
	words := []string{}
	for _, a := range args {
		switch a {
		case "-j", "-json":
			asJSON = true
		case "-4", "-6", "dev", "via", "show", "list":
		default:
			words = append(words, a)
		}
	}
	object := "addr"
	if len(words) > 0 {
		object, words = words[0], words[1:]
	}
	switch {
	case isShort(object, "address"):
		if len(words) > 0 && (words[0] == "add" || words[0] == "del") {
			return changeAddress(words)
		}
		return show(s, asJSON, true, words)
	case isShort(object, "link"):
		if len(words) > 0 && words[0] == "set" {
			return changeLink(words[1:])
		}
		return show(s, asJSON, false, words)
	case isShort(object, "route"):
		if len(words) > 0 {
			return changeRoute(words)
		}
		return routes(s)
	case isShort(object, "neighbour"), isShort(object, "neighbor"):
		return neighbours(s)
	}
	return ipUsage
}

// isShort says whether word is a beginning of name, as iproute2 takes it.
func isShort(word, name string) bool { return word != "" && strings.HasPrefix(name, word) }

// linkNamed returns the link of that name.
func linkNamed(name string) (link.Link, error) {
	all, err := link.List()
	names := []string{}
	for _, l := range all {
		if l.Name == name {
			return l, nil
		}
		names = append(names, l.Name)
	}
	if err != nil {
		return link.Link{}, err
	}
	return link.Link{}, usageError(fmt.Sprintf("there is no interface %s: there are %s", name, strings.Join(names, ", ")))
}

func show(s stdio, asJSON, addresses bool, only []string) error {
	all, err := link.List()
	if len(only) == 1 {
		l, err := linkNamed(only[0])
		if err != nil {
			return err
		}
		all = []link.Link{l}
	} else if len(only) > 1 {
		return ipUsage
	}
	if asJSON {
		return json.NewEncoder(s.out).Encode(all)
	}
	for _, l := range all {
		state := "DOWN"
		switch {
		case l.Up && l.Carrier:
			state = "UP"
		case l.Up:
			state = "NO-CARRIER"
		}
		fmt.Fprintf(s.out, "%d: %s: %s %s %s\n", l.Index, l.Name, state, l.Encap, l.MAC)
		if !addresses {
			continue
		}
		for _, a := range l.IPv4 {
			fmt.Fprintf(s.out, "    inet %s\n", a.Prefix)
		}
		for _, a := range l.IPv6 {
			note := ""
			switch {
			case a.DADFailed:
				note = " dadfailed"
			case a.Tentative:
				note = " tentative"
			}
			fmt.Fprintf(s.out, "    inet6 %s%s\n", a.Prefix, note)
		}
		if l.IPv6Disabled {
			fmt.Fprintln(s.out, "    IPv6 is disabled")
		}
	}
	return err
}

func changeLink(words []string) error {
	if len(words) != 2 || (words[1] != "up" && words[1] != "down") {
		return ipUsage
	}
	l, err := linkNamed(words[0])
	if err != nil {
		return err
	}
	if words[1] == "up" {
		return link.SetUp(l.Index)
	}
	return link.SetDown(l.Index)
}

func changeAddress(words []string) error {
	if len(words) != 3 {
		return ipUsage
	}
	p, err := netip.ParsePrefix(words[1])
	if err != nil {
		return usageError(fmt.Sprintf("%q is no address with a length, such as 192.168.1.5/24", words[1]))
	}
	l, err := linkNamed(words[2])
	if err != nil {
		return err
	}
	if words[0] == "add" {
		return link.AddPrefix(l.Index, p)
	}
	return link.DelPrefix(l.Index, p)
}

func changeRoute(words []string) error {
	if len(words) != 4 || (words[0] != "add" && words[0] != "del") || words[1] != "default" {
		return ipUsage
	}
	gw, err := netip.ParseAddr(words[2])
	if err != nil {
		return usageError(fmt.Sprintf("%q is no address of a gateway", words[2]))
	}
	l, err := linkNamed(words[3])
	if err != nil {
		return err
	}
	if words[0] == "add" {
		return link.SetDefaultRoute(l.Index, gw)
	}
	return link.DelDefaultRoute(l.Index, gw)
}

// routes shows the routes of both families, from proc(5).
func routes(s stdio) error {
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for _, f := range rows("/proc/net/route", 1) {
		if len(f) < 8 {
			continue
		}
		dst, gw, mask := hex4(f[1]), hex4(f[2]), hex4(f[7])
		bits := 0
		for _, b := range mask.As4() {
			for ; b != 0; b <<= 1 {
				bits++
			}
		}
		routeRow(t, netip.PrefixFrom(dst, bits), gw, f[0])
	}
	for _, f := range rows("/proc/net/ipv6_route", 0) {
		if len(f) < 10 || f[9] == "lo" || strings.HasPrefix(f[0], "ff") {
			continue
		}
		bits, _ := hex.DecodeString(f[1])
		if len(bits) != 1 {
			continue
		}
		routeRow(t, netip.PrefixFrom(hex16(f[0]), int(bits[0])), hex16(f[4]), f[9])
	}
	return t.Flush()
}

func routeRow(t *tabwriter.Writer, p netip.Prefix, gw netip.Addr, dev string) {
	to, via := p.String(), ""
	if p.Bits() == 0 {
		to = "default"
	}
	if !gw.IsUnspecified() {
		via = "via " + gw.String()
	}
	fmt.Fprintf(t, "%s\t%s\tdev %s\n", to, via, dev)
}

// neighbours shows who is known by MAC: for IPv4 only; 'rescue find' asks all of
// the link by IPv6.
func neighbours(s stdio) error {
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for _, f := range rows("/proc/net/arp", 1) {
		if len(f) >= 6 {
			fmt.Fprintf(t, "%s\tdev %s\tlladdr %s\n", f[0], f[5], f[3])
		}
	}
	fmt.Fprintln(t, "IPv6 neighbours: 'rescue find' asks for them")
	return t.Flush()
}

// rows returns the fields of each line of a file, without the first lines.
func rows(path string, skip int) [][]string {
	b, _ := os.ReadFile(path)
	var all [][]string
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			all = append(all, f)
		}
	}
	return all[min(skip, len(all)):]
}

// hex4 reads an IPv4 address as /proc/net/route has it: a number of the host.
func hex4(s string) netip.Addr {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.IPv4Unspecified()
	}
	return netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, binary.BigEndian.Uint32(b))))
}

func hex16(s string) netip.Addr {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return netip.IPv6Unspecified()
	}
	return netip.AddrFrom16([16]byte(b))
}
