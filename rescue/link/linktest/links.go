package linktest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Veth makes a pair of virtual Ethernet links, one end in each namespace (which
// may be the same). Neither end is raised.
func Veth(a *Namespace, nameA string, b *Namespace, nameB string) error {
	err := a.Do(func() error {
		v := &netlink.Veth{LinkAttrs: attrs(nameA), PeerName: nameB}
		v.PeerNamespace = netlink.NsFd(int(b.ns.Fd()))
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		return fastDAD(nameA)
	})
	if err == nil {
		err = b.Do(func() error { return fastDAD(nameB) })
	}
	if err != nil {
		return fmt.Errorf("making the veth pair %s in %s, %s in %s: %w", nameA, a.name, nameB, b.name, err)
	}
	return nil
}

// Bridge makes a bridge and raises it. It floods all multicast, as a switch
// without snooping does.
func (n *Namespace) Bridge(name string) error {
	snooping := false
	err := n.Do(func() error {
		br := &netlink.Bridge{LinkAttrs: attrs(name), MulticastSnooping: &snooping}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		return fastDAD(name)
	})
	if err != nil {
		return fmt.Errorf("making bridge %s in %s: %w", name, n.name, err)
	}
	return n.SetUp(name)
}

// Attach makes a link a port of a bridge and raises it. The kernel gives it no
// link-local address if it had none yet, since a port needs none.
func (n *Namespace) Attach(bridge, port string) error {
	err := n.Do(func() error {
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		p, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		return errors.Join(
			netlink.LinkSetIP6AddrGenMode(p, addrGenModeNone),
			netlink.LinkSetMaster(p, br),
			netlink.LinkSetUp(p),
		)
	})
	if err != nil {
		return fmt.Errorf("attaching %s to %s in %s: %w", port, bridge, n.name, err)
	}
	return nil
}

// Isolate has ports of a bridge reach only those that are not isolated.
func (n *Namespace) Isolate(ports ...string) error {
	return n.each("isolating", ports, func(l netlink.Link) error { return netlink.LinkSetIsolated(l, true) })
}

// SetUp raises links. With a veth, the carrier comes when both ends are up.
func (n *Namespace) SetUp(links ...string) error { return n.each("raising", links, netlink.LinkSetUp) }

// SetDown takes links down. The other end of a veth loses its carrier: a pulled
// cable.
func (n *Namespace) SetDown(links ...string) error {
	return n.each("taking down", links, netlink.LinkSetDown)
}

// Delete removes links; a veth takes its other end along.
func (n *Namespace) Delete(links ...string) error { return n.each("deleting", links, netlink.LinkDel) }

// SetMAC changes the MAC address of a link.
func (n *Namespace) SetMAC(name string, mac net.HardwareAddr) error {
	return n.each("setting the MAC of", []string{name}, func(l netlink.Link) error {
		return netlink.LinkSetHardwareAddr(l, mac)
	})
}

// AddAddress adds an address to a link; an IPv6 address without DAD, so that it
// is usable at once.
func (n *Namespace) AddAddress(name string, prefix netip.Prefix) error {
	return n.each("adding "+prefix.String()+" to", []string{name}, func(l netlink.Link) error {
		a := &netlink.Addr{IPNet: &net.IPNet{
			IP:   prefix.Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		}}
		if prefix.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		return netlink.AddrAdd(l, a)
	})
}

// each does something to each of the links and names the one that fails.
func (n *Namespace) each(doing string, links []string, f func(netlink.Link) error) error {
	return n.Do(func() error {
		for _, name := range links {
			l, err := netlink.LinkByName(name)
			if err == nil {
				err = f(l)
			}
			if err != nil {
				return fmt.Errorf("%s %s in %s: %w", doing, name, n.name, err)
			}
		}
		return nil
	})
}

// LinkLocal waits until a link has a link-local IPv6 address that can be used,
// and returns it with its index as the zone: the net package's table of names is
// one for the whole process.
func (n *Namespace) LinkLocal(ctx context.Context, name string) (netip.Addr, error) {
	var found netip.Addr
	err := n.WaitFor(ctx, "a usable link-local address on "+name, func() (bool, error) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return false, err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			return false, nil
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ok && ip.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
				found = ip.WithZone(strconv.Itoa(l.Attrs().Index))
				return true, nil
			}
		}
		return false, err
	})
	return found, err
}

// Sysctl writes a value to a file under /proc/sys, of this namespace if it is
// one under net/: "net/ipv6/conf/eth0/accept_dad", "0".
func (n *Namespace) Sysctl(path, value string) error {
	return n.Do(func() error { return writeSysctl(path, value) })
}

func writeSysctl(path, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting a sysctl: %w", err)
	}
	return nil
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of the kernel's linux/if_link.h.
const addrGenModeNone = 1

// fastDAD shortens duplicate address detection on a link from 1 s to 0.1 s: the
// time between its one probe and its verdict (RetransTimer, RFC 4862 §5.1).
func fastDAD(name string) error {
	return ipv6Sysctl("neigh/"+name+"/retrans_time_ms", "100")
}

// ipv6Sysctl writes below /proc/sys/net/ipv6, unless there is no such thing: many
// tests do without IPv6, and those that need it say so themselves.
func ipv6Sysctl(path, value string) error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return writeSysctl("net/ipv6/"+path, value)
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}
