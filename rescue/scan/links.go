package scan

import (
	"fmt"
	"slices"
	"strings"

	"rescue6/rescue/link"
)

// UnknownLinkError says that this machine has no link of that name.
type UnknownLinkError struct {
	Name string
	Have []string
}

func (e *UnknownLinkError) Error() string {
	return fmt.Sprintf("there is no interface %q: this machine has %s", e.Name, strings.Join(e.Have, ", "))
}

// NoLinkError says that no link can be used, and for each why not.
type NoLinkError struct{ Why []string }

func (e *NoLinkError) Error() string {
	if len(e.Why) == 0 {
		return "this machine has no Ethernet or Wi-Fi link: plug one in"
	}
	return "there is no link that can be used: " + strings.Join(e.Why, "; ")
}

// Links returns the links of this machine to look at: those named, or all if there
// are no names. The error is an *[UnknownLinkError] for a name that no link has,
// and a *[NoLinkError] if not one link can be used.
func Links(names []string) ([]link.Link, error) {
	all, err := link.List()
	if len(all) == 0 && err != nil {
		return nil, fmt.Errorf("reading the links of this machine: %w", err)
	}
	return choose(all, names)
}

func choose(all []link.Link, names []string) ([]link.Link, error) {
	var have []string
	for _, l := range all {
		have = append(have, l.Name)
	}
	for _, name := range names {
		if !slices.Contains(have, name) {
			return nil, &UnknownLinkError{name, have}
		}
	}
	var usable []link.Link
	var why []string
	for _, l := range all {
		if names != nil && !slices.Contains(names, l.Name) {
			continue
		}
		reason, count := unusable(l, all)
		switch {
		case reason == "":
			usable = append(usable, l)
		case count || names != nil:
			why = append(why, l.Name+" "+reason)
		}
	}
	if len(usable) == 0 {
		return nil, &NoLinkError{why}
	}
	return usable, nil
}

// unusable says why a link cannot be used, "" if it can, and whether a user who
// named none would want to know.
func unusable(l link.Link, all []link.Link) (reason string, count bool) {
	master := slices.IndexFunc(all, func(m link.Link) bool { return l.Master != 0 && m.Index == l.Master })
	switch {
	case l.Encap != "ether":
		return "is no Ethernet link", false
	case master >= 0:
		return "is a port of " + all[master].Name + ": use that", false
	case !l.Up:
		return fmt.Sprintf("is down (sudo ip link set %s up)", l.Name), true
	case !l.Carrier:
		return "has no carrier: is the cable plugged in?", true
	case l.IPv6Disabled:
		return fmt.Sprintf("has IPv6 disabled (sudo sysctl -w net.ipv6.conf.%s.disable_ipv6=0)", l.Name), true
	case !slices.ContainsFunc(l.LinkLocal(), link.Address.Usable):
		return "has no link-local address yet", true
	}
	return "", false
}
