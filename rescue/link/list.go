//go:build linux

package link

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumpTries is how often a dump is asked for that the kernel says was
// interrupted by a change.
const dumpTries = 5

// List returns all links with their addresses and IPv4 default routes, sorted by
// index.
//
// It returns what it could read together with an error that tells what is
// missing: a link that appears without addresses then may have some. On a
// kernel without IPv6 the error is [ErrNoIPv6] and all else is complete.
func List() ([]Link, error) {
	msgs, linkErr := dump(unix.RTM_GETLINK, linkRequest(0)...)
	if len(msgs) == 0 {
		return nil, fmt.Errorf("listing links: %w", cmp.Or(linkErr, errNoAnswer))
	}
	var s state
	var errs []error
	for _, m := range msgs {
		l, err := parseLink(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("listing links: %w", err))
			continue
		}
		s.links = append(s.links, l)
	}
	if linkErr != nil {
		errs = append(errs, fmt.Errorf("listing links: %w", linkErr))
	}
	slices.SortFunc(s.links, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	// An interrupted dump may show a link twice.
	s.links = slices.CompactFunc(s.links, func(a, b Link) bool { return a.Index == b.Index })

	errs = append(errs,
		s.fill("listing addresses", unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC), s.address),
		s.fill("listing IPv4 routes", unix.RTM_GETROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET}}, s.route),
		haveIPv6(),
	)
	return s.links, errors.Join(errs...)
}

var errNoAnswer = errors.New("the kernel sent nothing")

// state is the list while it is being put together.
type state struct{ links []Link }

// fill asks for a dump and takes each of its messages, whatever happens to the
// others.
func (s *state) fill(doing string, request int, header nl.NetlinkRequestData, take func([]byte) error) error {
	msgs, err := dump(request, header)
	for _, m := range msgs {
		if e := take(m); e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// link returns the link with an index, nil if it came after the links were read.
func (s *state) link(index int) *Link {
	i, ok := slices.BinarySearchFunc(s.links, index, func(l Link, index int) int { return cmp.Compare(l.Index, index) })
	if !ok {
		return nil
	}
	return &s.links[i]
}

func (s *state) address(msg []byte) error {
	index, a, err := parseAddress(msg)
	if err != nil {
		return err
	}
	l := s.link(index)
	switch {
	case l == nil:
	case a.Prefix.Addr().Is4():
		l.IPv4 = append(l.IPv4, a)
	default:
		l.IPv6 = append(l.IPv6, a)
	}
	return nil
}

func (s *state) route(msg []byte) error {
	hops, err := parseDefaultRoute(msg)
	for _, h := range hops {
		if l := s.link(h.index); l != nil && !slices.Contains(l.Gateways4, h.gateway) {
			l.Gateways4 = append(l.Gateways4, h.gateway)
		}
	}
	return err
}

// linkRequest returns what goes into a request for one link, or, if index is 0,
// for all. Statistics are left out: they are most of the answer.
func linkRequest(index int) []nl.NetlinkRequestData {
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	return []nl.NetlinkRequestData{header, nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(extFilterSkipStats))}
}

// extFilterSkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const extFilterSkipStats = 1 << 3

// dump returns the payloads of all messages that answer a request. If every try
// was interrupted by a change, the last answer comes with the error.
func dump(request int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	var msgs [][]byte
	var err error
	for range dumpTries {
		req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
		for _, d := range data {
			req.AddData(d)
		}
		// The answer to RTM_GETx is RTM_NEWx, two below it.
		msgs, err = req.Execute(unix.NETLINK_ROUTE, uint16(request-2))
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	return msgs, err
}

// haveIPv6 returns ErrNoIPv6 if the kernel has none.
func haveIPv6() error {
	if _, err := os.Stat(ipv6Sysctls); errors.Is(err, fs.ErrNotExist) {
		return ErrNoIPv6
	}
	return nil
}
