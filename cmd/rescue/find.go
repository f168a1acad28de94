package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
	"rescue6/rescue/link"
	"rescue6/rescue/scan"
)

func newFindCommand() *cobra.Command {
	var interfaces []string
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Show who is on the links of this machine, by IPv6, and which are yours",
		Long: `Show who is on the links of this machine, by IPv6, and which are yours.

Every node answers an echo to all nodes (ff02::1), whatever has become of IPv4.
Who answers is asked for its SSH host key. Exits 0 if somebody was found, 1 if
nobody, 2 on wrong use, 3 if it is not permitted or no link can be used.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("timeout") && timeout <= 0 {
				return usagef("--timeout %s: give a time above 0, such as 3s", timeout)
			}
			links, err := usableLinks(interfaces)
			if err != nil {
				return err
			}
			mine, err := pinned()
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "rescue: %v\n", err)
			}
			hosts, err := findHosts(cmd.Context(), links, mine, timeout)
			if err != nil {
				return err
			}
			show := showTable
			if asJSON {
				show = showJSON
			}
			if err := show(cmd.OutOrStdout(), hosts); err != nil {
				return failf("printing: %w", err)
			}
			if !slices.ContainsFunc(hosts, func(h scan.Host) bool { return !h.Self }) {
				return &exitError{status: exitNothing}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&interfaces, "interface", "i", nil, "`interface` to look at (repeatable; default: all that work)")
	f.BoolVar(&asJSON, "json", false, "one JSON object a line")
	f.DurationVar(&timeout, "timeout", 0, "end after this `time` at the latest (default 3s; a quiet link takes less)")
	return cmd
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

// findHosts scans. A scan that is interrupted says what is known.
func findHosts(ctx context.Context, links []link.Link, mine []instance.Instance, timeout time.Duration) ([]scan.Host, error) {
	c := scan.Config{Links: links, Timeout: timeout}
	for _, in := range mine {
		c.Instances = append(c.Instances, scan.Instance{Name: in.Name, Key: in.Key})
	}
	hosts, err := scan.Run(ctx, c)
	switch {
	case errors.Is(err, scan.ErrNotPermitted):
		return nil, &exitError{exitNotPermitted, err}
	case err != nil && len(hosts) == 0:
		return nil, failf("looking for hosts: %w", err)
	}
	return hosts, nil
}

// showTable prints what was found, and as the last line the command that logs in.
func showTable(w io.Writer, hosts []scan.Host) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tADDRESS\tMAC\tRTT\tSSH")
	login := ""
	for _, h := range hosts {
		writeRow(t, h)
		if login == "" && h.SSH != nil && !h.Self {
			login = "ssh root@" + h.Addresses[0].Addr.String()
			if h.Name != "" {
				login = "rescue ssh " + h.Name
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if login != "" {
		fmt.Fprintf(w, "\n%s\n", login)
	}
	return nil
}

// writeRow prints a line for each address of a host.
func writeRow(w io.Writer, h scan.Host) {
	name, said := h.Name, ""
	if h.SSH != nil {
		said = h.SSH.Software + " " + h.SSH.Fingerprint()
		switch {
		case h.Name != "":
			said += " yours"
		case h.SelfConsistent():
			said += " self-consistent"
		}
	}
	if h.Self {
		name = "(this machine)"
	}
	for _, a := range h.Addresses {
		rtt := ""
		if a.RTT > 0 && !h.Self {
			rtt = fmt.Sprintf("%.1f ms", milliseconds(a.RTT))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, a.Addr, h.MAC, rtt, said)
		name, said = "", ""
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

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
		Interface string        `json:"interface"`
		MAC       string        `json:"mac"`
		Self      bool          `json:"self"`
		Addresses []addressJSON `json:"addresses"`
		SSH       *sshJSON      `json:"ssh,omitempty"`
		Rescue    *rescueJSON   `json:"rescue,omitempty"`
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
		LabelAddress string `json:"label_address"`
	}
)

func jsonHost(h scan.Host) hostJSON {
	o := hostJSON{Interface: h.Interface, MAC: h.MAC.String(), Self: h.Self}
	for _, a := range h.Addresses {
		o.Addresses = append(o.Addresses, addressJSON{a.Addr.String(), "link", a.Via, milliseconds(a.RTT)})
	}
	if h.SSH != nil {
		o.SSH = &sshJSON{h.SSH.Addr.Port(), h.SSH.Software, h.SSH.Fingerprint(), h.Name}
	}
	if key, ok := h.SSH.Ed25519(); ok && (h.Name != "" || h.SelfConsistent()) {
		o.Rescue = &rescueJSON{h.Name, h.Name != "", identity.LabelAddress(key).String()}
	}
	return o
}
