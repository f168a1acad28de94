//go:build linux

package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const ipv6Sysctls = "/proc/sys/net/ipv6"

// EnableIPv6 lets a link take part in IPv6 (disable_ipv6). The kernel then makes
// its link-local address, if the link is up and [AddrGenMode] says so.
func EnableIPv6(index int) error {
	return configure(index, "enabling IPv6", setting{"conf", "disable_ipv6", 0})
}

// Regenerate has the kernel make the EUI-64 link-local address of a link again,
// and switches to that way of making it (addr_gen_mode). A flushed address never
// comes back otherwise. The link has to be up; duplicate address detection then
// takes its time, see [FastDAD].
func Regenerate(index int) error {
	// Only a change of the mode makes the kernel look, and only one away from
	// AddrGenNone is sure to be a change.
	return configure(index, "regenerating the link-local address",
		setting{"conf", "addr_gen_mode", int(AddrGenNone)},
		setting{"conf", "addr_gen_mode", int(AddrGenEUI64)})
}

// FastDAD makes new addresses of a link usable after 0.1 s instead of 1 to 2 s:
// no random delay before the one probe of duplicate address detection, and
// 100 ms until silence counts as consent (RetransTimer, RFC 4862 §5.1). It
// applies to addresses that come after it, and should be called before the link
// is raised. A neighbour that takes longer to object is not noticed.
//
// RetransTimer also paces the resolution of neighbours' addresses (RFC 4861
// §7.2.2): three questions within 0.3 s, after which a silent neighbour is
// unreachable until the next packet asks again. A router's advertisement may
// set another value (RFC 4861 §6.3.4).
func FastDAD(index int) error {
	return configure(index, "shortening duplicate address detection",
		setting{"conf", "router_solicitation_delay", 0}, // the kernel's limit of the random delay, in s
		setting{"neigh", "retrans_time_ms", 100})
}

// A setting is the value of a file below /proc/sys/net/ipv6/CLASS/LINK.
type setting struct {
	class, name string
	value       int
}

// configure writes settings of one link, in order, up to the first that fails.
func configure(index int, doing string, settings ...setting) error {
	name, err := nameOf(index)
	if err != nil {
		return fmt.Errorf("%s on link %d: %w", doing, index, err)
	}
	for _, s := range settings {
		if err := s.write(name); err != nil {
			return fmt.Errorf("%s on %s: %w", doing, name, err)
		}
	}
	return nil
}

func (s setting) write(link string) error {
	if err := haveIPv6(); err != nil {
		return err
	}
	// A link's name can hold neither a slash nor be "..", see dev_valid_name in
	// the kernel's net/core/dev.c.
	f, err := os.OpenFile(filepath.Join(ipv6Sysctls, s.class, link, s.name), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it has no IPv6; is its MTU below 1280? (%w)", err)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(s.value))
	return errors.Join(err, f.Close())
}

// nameOf asks for the present name of a link.
func nameOf(index int) (string, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	for _, d := range linkRequest(index) {
		req.AddData(d)
	}
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return "", err
	}
	if len(msgs) == 0 {
		return "", errNoAnswer
	}
	l, err := parseLink(msgs[0])
	return l.Name, err
}
