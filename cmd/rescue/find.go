package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rescue6/rescue/instance"
	"rescue6/rescue/link"
	"rescue6/rescue/scan"
)

// findOptions are the flags of rescue find.
type findOptions struct {
	interfaces []string
	json       bool
	quiet      bool
	watch      bool
	all        bool
	linkLocal  bool
	ipv4       bool
	dual       bool
	names      bool
	ping       bool
	common     bool
	ports      []string
	dns        string
	timeout    time.Duration

	numbers []uint16 // of ports
}

func newFindCommand() *cobra.Command {
	var o findOptions
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Show who is on the links of this machine, by IPv6, and which are yours",
		Long: `Show who is on the links of this machine, by IPv6, and which are yours.

Every node answers an echo to all nodes (ff02::1), whatever has become of IPv4,
or objects to an option that it does not know. Who answers is asked for its SSH
host key: "yours" is said of a pinned key and nothing else. "self-consistent" is
a stranger whose label address is made from its key.

It takes less than a second on a wire, and sends 30 multicast frames per link at
most. Exits 0 if somebody was found, 1 if nobody, 2 on wrong use, 3 if it is not
permitted or no link can be used.`,
		Example: `  rescue find                     who is there
  sudo rescue find                the same, and those who ignore pings
  rescue find -i eth0 -q          one address a line, for scripts
  rescue find --dns home.arpa     lines for the zone file of a local DNS server
  rescue find --watch             who comes and who goes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd.Flags().Changed("timeout")); err != nil {
				return err
			}
			err := runFind(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if errors.Is(err, syscall.EPIPE) {
				return nil // nobody wants to read on
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.interfaces, "interface", "i", nil, "`interface` to look at (repeatable; default: all that work)")
	f.BoolVar(&o.json, "json", false, "one JSON object a line")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "addresses only, one a line")
	f.BoolVar(&o.watch, "watch", false, "go on, and tell who is new, who has changed and who has gone")
	f.BoolVar(&o.all, "all-addresses", false, "show all addresses of each host, by prefix")
	f.BoolVarP(&o.linkLocal, "link-local", "L", false, "link-local addresses only")
	f.BoolVar(&o.ipv4, "ipv4", false, "look for IPv4 addresses, too (ARP, subnets of up to 1024)")
	f.BoolVarP(&o.dual, "dual", "D", false, "dual stack: --ipv4 --all-addresses")
	f.BoolVar(&o.names, "names", false, "ask for the name of each address (mDNS)")
	f.BoolVarP(&o.ping, "ping", "p", false, "ping each address by itself, too")
	f.BoolVarP(&o.common, "scan-ports", "N", false, "look which common TCP ports are open on each host")
	f.StringSliceVar(&o.ports, "ports", nil, "TCP `ports` to look at on each host, such as 22,80")
	f.StringVar(&o.dns, "dns", "", "print AAAA lines for the zone file of this `domain`, nothing else")
	f.DurationVar(&o.timeout, "timeout", 0, "end after this `time` at the latest (default 3s; a quiet link takes less)")
	return cmd
}

// check completes the options, or says what is wrong with them.
func (o *findOptions) check(timeoutGiven bool) error {
	if timeoutGiven && o.timeout <= 0 {
		return usagef("--timeout %s: give a time above 0, such as 3s", o.timeout)
	}
	for _, p := range o.ports {
		n, err := strconv.ParseUint(strings.TrimSpace(p), 10, 16)
		if err != nil || n == 0 {
			return usagef("--ports %s: a port is a number from 1 to 65535", p)
		}
		o.numbers = append(o.numbers, uint16(n))
	}
	if o.common {
		o.numbers = append(o.numbers, scan.CommonPorts...)
	}
	if o.dns != "" && !validDomain(o.dns) {
		return usagef("--dns %q: that is no domain: letters, digits and hyphens, such as home.arpa", o.dns)
	}
	outputs := 0
	for _, on := range []bool{o.json, o.quiet, o.dns != ""} {
		if on {
			outputs++
		}
	}
	if outputs > 1 || o.watch && (o.quiet || o.dns != "") {
		return usagef("--json, -q and --dns are different outputs, and --watch goes with --json only: choose one")
	}
	if o.dual {
		o.ipv4, o.all = true, true
	}
	return nil
}

func runFind(ctx context.Context, o findOptions, stdout, stderr io.Writer) error {
	links, err := usableLinks(o.interfaces)
	if err != nil {
		return err
	}
	mine, err := pinned()
	if err != nil {
		fmt.Fprintf(stderr, "rescue: %v\n", err)
	}
	c := scan.Config{
		Links: links, Instances: asked(mine), Timeout: o.timeout,
		Names: o.names || o.dns != "", Ping: o.ping, IPv4: o.ipv4,
	}
	if o.watch {
		return watch(ctx, o, c, stdout)
	}
	// On an instance scand knows who was there before.
	known, _ := scan.Known(ctx, scan.DefaultControl)
	var rows *streamed
	if !o.json && !o.quiet && o.dns == "" {
		rows = stream(stdout)
		for _, k := range known {
			rows.show(k.Addresses[0].Address, k.MAC)
		}
		c.Found = func(h scan.Host) { rows.show(h.Addresses[0].Addr.String(), h.MAC.String()) }
	}
	r, err := findHosts(ctx, o, c)
	rows.erase()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	if err := errors.Join(o.print(out, r.Hosts, silent(known, r.Hosts)), out.Flush()); err != nil {
		return failf("printing: %w", err)
	}
	remarks(stderr, r)
	if !slices.ContainsFunc(r.Hosts, func(h scan.Host) bool { return !h.Self }) {
		return &exitError{status: exitNothing}
	}
	return nil
}

// silent returns those of who was known that have not answered.
func silent(known []scan.Record, hosts []scan.Host) []scan.Record {
	return slices.DeleteFunc(known, func(k scan.Record) bool {
		return slices.ContainsFunc(hosts, func(h scan.Host) bool { return h.Interface == k.Interface && h.MAC.String() == k.MAC })
	})
}

// findHosts scans once. A scan that is interrupted says what is known.
func findHosts(ctx context.Context, o findOptions, c scan.Config) (scan.Result, error) {
	r, err := scan.Run(ctx, c)
	switch {
	case errors.Is(err, scan.ErrNotPermitted):
		return r, &exitError{exitNotPermitted, err}
	case err != nil && len(r.Hosts) == 0:
		return r, failf("looking for hosts: %w", err)
	}
	if len(o.numbers) > 0 {
		scan.Ports(ctx, r.Hosts, o.numbers)
	}
	if o.linkLocal {
		r.Hosts = linkLocalOnly(r.Hosts)
	}
	return r, nil
}

// linkLocalOnly leaves the other addresses out, and hosts that have no more.
func linkLocalOnly(hosts []scan.Host) []scan.Host {
	for i := range hosts {
		hosts[i].Addresses = slices.DeleteFunc(hosts[i].Addresses, func(a scan.Address) bool { return a.Scope() != "link" })
	}
	return slices.DeleteFunc(hosts, func(h scan.Host) bool { return len(h.Addresses) == 0 })
}

func (o findOptions) print(w io.Writer, hosts []scan.Host, silent []scan.Record) error {
	switch {
	case o.json:
		return showJSON(w, hosts, silent)
	case o.quiet:
		return showAddresses(w, hosts)
	case o.dns != "":
		return showZone(w, hosts, o.dns)
	}
	return showTable(w, hosts, silent, o.all)
}

// remarks says what the result lacks, and how to get it.
func remarks(w io.Writer, r scan.Result) {
	if r.Partial {
		exe, err := os.Executable()
		if err != nil {
			exe = "rescue"
		}
		fmt.Fprintf(w, "rescue: hosts that ignore pings were not seen: sudo rescue find, or once: sudo setcap cap_net_raw+ep %s\n", exe)
	}
	if r.Unasked > 0 {
		fmt.Fprintf(w, "rescue: %d hosts were not asked for SSH: there are too many\n", r.Unasked)
	}
	if r.Dropped > 0 {
		fmt.Fprintf(w, "rescue: %d more addresses were not kept: somebody answers for all that there are\n", r.Dropped)
	}
	for _, h := range r.Hosts {
		if h.Conflict {
			fmt.Fprintf(w, "rescue: more than one machine claims an address of %s (%s)\n", h.MAC, h.Addresses[0].Addr)
		}
	}
}

// pinned returns the user's own instances. Those that cannot be read are left out
// and named in the error.
func pinned() ([]instance.Instance, error) {
	store, err := instance.Open()
	if err != nil {
		return nil, err
	}
	return store.List()
}

// asked returns instances as a scan wants them.
func asked(mine []instance.Instance) []scan.Instance {
	var all []scan.Instance
	for _, in := range mine {
		all = append(all, scan.Instance{Name: in.Name, Key: in.Key})
	}
	return all
}

// usableLinks returns the links to look at, all if there are no names.
func usableLinks(names []string) ([]link.Link, error) {
	links, err := scan.Links(names)
	var unknown *scan.UnknownLinkError
	var none *scan.NoLinkError
	switch {
	case errors.As(err, &unknown):
		return nil, usagef("%w", err)
	case errors.As(err, &none):
		return nil, &exitError{exitNotPermitted, err}
	case err != nil:
		return nil, failf("%w", err)
	}
	return links, nil
}
