//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"rescue6/gokrazy"
	"rescue6/rescue/link/linktest"
)

// The lab's IPv4 network: TEST-NET-1, which is nobody's (RFC 5737 §3).
var (
	labRouter = netip.MustParseAddr("192.0.2.1")
	labLaptop = netip.MustParseAddr("192.0.2.2")
)

// labLeases is what the DHCP server leases: first and last address, mask, and
// the shortest time that dnsmasq knows.
const labLeases = "192.0.2.50,192.0.2.99,255.255.255.0,2m"

// network is one switch with three machines on it: a laptop, a home router that
// leases IPv4 addresses and knows nothing of IPv6, and the guest on tap0.
type network struct {
	bridge, laptop, router *linktest.Namespace

	files   string // directory for the leases and the log
	dnsmasq *exec.Cmd
}

// labTap is the end of the guest's cable, in the bridge's namespace.
const labTap = "tap0"

// newNetwork builds the network in the lab of this process, without any IPv4. The
// laptop's eth0 has a usable link-local address when it returns.
func newNetwork(ctx context.Context, dir string) (*network, error) {
	n := &network{files: dir}
	for _, ns := range []struct {
		name string
		to   **linktest.Namespace
	}{{"bridge", &n.bridge}, {"laptop", &n.laptop}, {"router", &n.router}} {
		var err error
		if *ns.to, err = linktest.New(ns.name); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(
		linktest.Veth(n.bridge, "laptop0", n.laptop, "eth0"),
		linktest.Veth(n.bridge, "router0", n.router, "eth0"),
		n.bridge.Bridge("br0"),
	); err != nil {
		return nil, err
	}
	if _, err := n.bridge.Run(ctx, "ip", "tuntap", "add", "dev", labTap, "mode", "tap"); err != nil {
		return nil, fmt.Errorf("making the guest's network cable: %w", err)
	}
	for _, port := range []string{"laptop0", "router0", labTap} {
		if err := n.bridge.Attach("br0", port); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(
		// Neither the switch nor the router has anything to do with IPv6.
		n.bridge.Sysctl("net/ipv6/conf/br0/disable_ipv6", "1"),
		n.router.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"),
		n.router.SetUp("eth0"),
		n.laptop.SetUp("eth0"),
	); err != nil {
		return nil, err
	}
	_, err := n.laptop.LinkLocal(ctx, "eth0")
	return n, err
}

// startIPv4 gives the router and the laptop an address and starts dnsmasq.
func (n *network) startIPv4() error {
	if err := n.laptop.AddAddress("eth0", netip.PrefixFrom(labLaptop, 24)); err != nil {
		return err
	}
	return n.startDHCP(labRouter, labLeases)
}

// startDHCP gives the router an address and starts dnsmasq, which leases those of a
// range, and refuses all others.
func (n *network) startDHCP(router netip.Addr, leases string) error {
	if err := n.router.AddAddress("eth0", netip.PrefixFrom(router, 24)); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	dnsmasq, err := gokrazy.LookTool("dnsmasq", "dnsmasq-base")
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(n.files, "dnsmasq.log"))
	if err != nil {
		return fmt.Errorf("making a log for dnsmasq: %w", err)
	}
	defer log.Close()
	n.dnsmasq = exec.Command(dnsmasq,
		// In the foreground, and without becoming another user, for which a
		// user namespace has no room.
		"--no-daemon", "--conf-file=/dev/null",
		"--port=0", // no DNS
		"--interface=eth0", "--bind-interfaces", "--dhcp-authoritative",
		"--dhcp-range="+leases, "--dhcp-leasefile="+n.leaseFile())
	n.dnsmasq.Stdout, n.dnsmasq.Stderr = log, log
	return n.router.Start(n.dnsmasq)
}

// killDHCP kills dnsmasq. It is an error if it had ended before.
func (n *network) killDHCP() error {
	if err := n.dnsmasq.Process.Kill(); err != nil {
		return fmt.Errorf("killing dnsmasq: %w", err)
	}
	n.dnsmasq.Wait()
	if status, ok := n.dnsmasq.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		said, _ := os.ReadFile(filepath.Join(n.files, "dnsmasq.log"))
		return fmt.Errorf("dnsmasq had ended before (%v): %s", n.dnsmasq.ProcessState, bytes.TrimSpace(said))
	}
	return nil
}

func (n *network) leaseFile() string { return filepath.Join(n.files, "leases") }

// lease returns the IPv4 address that dnsmasq has leased to mac, and whether
// there is one.
func (n *network) lease(mac net.HardwareAddr) (netip.Addr, bool, error) {
	b, err := os.ReadFile(n.leaseFile())
	if errors.Is(err, fs.ErrNotExist) {
		return netip.Addr{}, false, nil
	}
	if err != nil {
		return netip.Addr{}, false, err
	}
	return findLease(string(b), mac)
}

// findLease looks in dnsmasq's lease file, whose lines are: time of expiry, MAC,
// address, name, client identifier.
func findLease(leases string, mac net.HardwareAddr) (netip.Addr, bool, error) {
	for line := range strings.Lines(leases) {
		f := strings.Fields(line)
		if len(f) >= 3 && strings.EqualFold(f[1], mac.String()) {
			addr, err := netip.ParseAddr(f[2])
			return addr, err == nil, err
		}
	}
	return netip.Addr{}, false, nil
}
