//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescue6/rescue/announce"
	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
	"rescue6/rescue/link"
)

// listenOptions are the flags of rescue listen.
type listenOptions struct {
	interfaces []string
	json       bool
	count      int
	timeout    time.Duration
}

func newListenCommand() *cobra.Command {
	var o listenOptions
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Print the announcements of instances as they come",
		Long: `Print the announcements of instances as they come.

Each instance announces its addresses when something changes, and about once a
minute. SIGNATURE says "yours" if the signature is valid and the key is that of
an instance of yours, "valid" if the holder of the key shown said this (whoever
that is), and "INVALID" if somebody forged it. A name in quotes is a claim. An
announcement may be a replay; that an instance is there now, 'rescue ssh' proves.

Exits 0 if one was heard, 1 if none was, 2 on wrong use, 3 if not permitted or
if there is no usable link.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runListen(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.interfaces, "interface", "i", nil, "listen on this `interface` only; may be repeated")
	f.BoolVar(&o.json, "json", false, "print one JSON object per line")
	f.IntVar(&o.count, "count", 0, "end after `N` announcements")
	f.DurationVar(&o.timeout, "timeout", 0, "end after this `time`, such as 90s")
	return cmd
}

// hearing is one announcement, how it came, and what to think of it.
type hearing struct {
	announce.Announcement
	from  netip.Addr
	mac   net.HardwareAddr
	valid bool   // the signature
	mine  string // the user's instance that it is from: valid, and of a pinned key
}

func runListen(ctx context.Context, o listenOptions, stdout, stderr io.Writer) error {
	if o.count < 0 || o.timeout < 0 {
		return usagef("--count and --timeout must not be negative")
	}
	interfaces, err := listenInterfaces(o.interfaces)
	if err != nil {
		return err
	}
	mine, err := ownInstances()
	if err != nil {
		fmt.Fprintf(stderr, "rescue: not all of your instances are recognised: %v\n", err)
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	if !o.json {
		fmt.Fprintf(stderr, "listening on %s\n", strings.Join(interfaces, ", "))
	}
	print := printText
	if o.json {
		print = printJSON
	}
	n := 0
	err = listenAll(ctx, interfaces, stderr, func(h hearing) (bool, error) {
		n++
		if h.valid = h.Verify() == nil; h.valid {
			h.mine = mine[string(h.Key)]
		}
		err := print(stdout, h, n == 1)
		return n == o.count, err
	})
	switch {
	case err != nil || n > 0:
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return failf("no announcement within %v", o.timeout)
	default:
		return &exitError{exitNothing, nil}
	}
}

// listenInterfaces returns the interfaces to listen on: those asked for, which
// must exist, or every Ethernet-like one that is up and not a port of another.
func listenInterfaces(asked []string) ([]string, error) {
	links, err := link.List()
	if err != nil && len(links) == 0 {
		return nil, &exitError{exitNotPermitted, err}
	}
	var names, usable []string
	for _, l := range links {
		names = append(names, l.Name)
		if l.Up && l.Encap == "ether" && l.Master == 0 {
			usable = append(usable, l.Name)
		}
	}
	for _, name := range asked {
		if !slices.Contains(names, name) {
			return nil, usagef("there is no interface %q: choose from %s", name, strings.Join(names, ", "))
		}
	}
	switch {
	case len(asked) > 0:
		slices.Sort(asked)
		return slices.Compact(asked), nil
	case len(usable) == 0:
		return nil, &exitError{exitNotPermitted, fmt.Errorf("no link is up: sudo ip link set NAME up, where NAME is one of %s", strings.Join(names, ", "))}
	}
	return usable, nil
}

// ownInstances returns the names of the user's instances by their public key.
func ownInstances() (map[string]string, error) {
	store, err := instance.Open()
	if err != nil {
		return nil, err
	}
	instances, err := store.List()
	names := make(map[string]string)
	for _, i := range instances {
		names[string(i.Key)] = i.Name
	}
	return names, err
}

// listenAll hands what is heard on any of the interfaces to fn, one after the
// other, until fn says that it is done, ctx ends, or no interface is left. One
// that goes away is named on stderr and does not stop the others.
func listenAll(ctx context.Context, interfaces []string, stderr io.Writer, fn func(hearing) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	heard, ended := make(chan hearing), make(chan error)
	for _, name := range interfaces {
		go func() {
			ended <- announce.Listen(ctx, name, func(a announce.Announcement, from netip.Addr, mac net.HardwareAddr) {
				select {
				case heard <- hearing{Announcement: a, from: from, mac: mac}:
				case <-ctx.Done():
				}
			})
		}()
	}
	listening := len(interfaces)
	defer func() {
		cancel()
		for range listening {
			<-ended
		}
	}()

	for {
		select {
		case h := <-heard:
			if done, err := fn(h); done || err != nil {
				return err
			}
		case err := <-ended:
			listening--
			switch {
			case errors.Is(err, os.ErrPermission):
				return &exitError{exitNotPermitted, errListenPermission()}
			case err != nil && listening == 0:
				return &exitError{exitNotPermitted, err}
			case err != nil:
				fmt.Fprintf(stderr, "rescue: %v\n", err)
			case listening == 0: // ctx has ended
				return nil
			}
		}
	}
}

// errListenPermission names both ways to be permitted. The capability is the
// better one: as root, the user's own instances are not known.
func errListenPermission() error {
	self, err := os.Executable()
	if err != nil {
		self = "rescue"
	}
	return fmt.Errorf("listening for announcements is not permitted: sudo setcap cap_net_raw+ep %s, or sudo %s listen", self, self)
}

// printText writes one line, and a heading first.
func printText(w io.Writer, h hearing, first bool) error {
	const format = "%-16s %-36s %-17s %-9s %-5v %-51s %s\n"
	if first {
		if _, err := fmt.Fprintf(w, format, "NAME", "ADDRESS", "MAC", "SIGNATURE", "PORT", "KEY", "NOTES"); err != nil {
			return failf("printing announcement: %w", err)
		}
	}
	name, signature := fmt.Sprintf("%q", h.Hostname), "valid"
	switch {
	case !h.valid:
		signature = "INVALID"
	case h.mine != "":
		name, signature = h.mine, "yours"
	}
	var notes []string
	if h.IPv4Dead {
		notes = append(notes, "IPv4 is dead")
	}
	if h.Target == identity.LabelAddress(h.Key) {
		notes = append(notes, "label address")
	}
	if h.Router {
		notes = append(notes, "router")
	}
	if h.mac.String() != h.MAC.String() {
		notes = append(notes, "sent by "+h.mac.String())
	}
	_, err := fmt.Fprintf(w, format, name, h.Target.WithZone(h.from.Zone()), h.MAC, signature, h.Port,
		identity.Fingerprint(h.Key), strings.Join(notes, ", "))
	if err != nil {
		return failf("printing announcement: %w", err)
	}
	return nil
}

// heardJSON is what --json prints for one announcement.
type heardJSON struct {
	Instance       string     `json:"instance,omitempty"` // of the user, by its pinned key and a valid signature
	Hostname       string     `json:"hostname"`           // as claimed
	Address        netip.Addr `json:"address"`            // with zone
	Label          bool       `json:"label"`              // the address is the key's label address
	Interface      string     `json:"interface"`
	MAC            string     `json:"mac"`
	Port           uint16     `json:"port"`
	Key            string     `json:"key"`
	Fingerprint    string     `json:"fingerprint"`
	SignatureValid bool       `json:"signature_valid"`
	IPv4Dead       bool       `json:"ipv4_dead"`
	Router         bool       `json:"router"`
	BootID         string     `json:"boot_id"`
	Sequence       uint64     `json:"sequence"`
	From           netip.Addr `json:"from"`     // source of the packet
	FromMAC        string     `json:"from_mac"` // source of the frame
}

// printJSON writes one object and a newline.
func printJSON(w io.Writer, h hearing, _ bool) error {
	err := json.NewEncoder(w).Encode(heardJSON{
		Instance:       h.mine,
		Hostname:       h.Hostname,
		Address:        h.Target.WithZone(h.from.Zone()),
		Label:          h.Target == identity.LabelAddress(h.Key),
		Interface:      h.from.Zone(),
		MAC:            h.MAC.String(),
		Port:           h.Port,
		Key:            identity.AuthorizedKey(h.Key),
		Fingerprint:    identity.Fingerprint(h.Key),
		SignatureValid: h.valid,
		IPv4Dead:       h.IPv4Dead,
		Router:         h.Router,
		BootID:         hex.EncodeToString(h.BootID[:]),
		Sequence:       h.Sequence,
		From:           h.from,
		FromMAC:        h.mac.String(),
	})
	if err != nil {
		return failf("printing announcement: %w", err)
	}
	return nil
}
