package scan

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"

	"rescue6/rescue/link"
)

// ARP (RFC 826): what is asked, and how fast.
const (
	etherTypeARP = 0x0806
	arpSize      = 28
	arpPause     = 500 * time.Microsecond
	// arpBits bounds the subnets that are asked one by one: 1024 addresses.
	arpBits = 22
)

// arp collects which IPv4 addresses a MAC has.
type arp struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr // by link and MAC
}

func (a *arp) note(index int, mac net.HardwareAddr, addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := arpID(index, mac)
	if len(a.addrs) < maxSightings && !slices.Contains(a.addrs[id], addr) && !addr.IsUnspecified() {
		a.addrs[id] = append(a.addrs[id], addr)
	}
}

func arpID(index int, mac net.HardwareAddr) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(index))) + string(mac)
}

// ask asks for every address of the link's own subnets, once, if this process may,
// and listens until ctx ends.
func (a *arp) ask(ctx context.Context, l link.Link) {
	conn, err := packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC}, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return // the kernel's own table is left
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		for _, own := range l.IPv4 {
			p := own.Prefix.Masked()
			if p.Bits() < arpBits {
				continue
			}
			for to := p.Addr(); p.Contains(to) && ctx.Err() == nil; to = to.Next() {
				_, _ = conn.WriteTo(arpRequest(l.MAC, own.Prefix.Addr(), to), &packet.Addr{HardwareAddr: broadcast})
				time.Sleep(arpPause)
			}
		}
	}()
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if mac, addr, ok := parseARP(buf[:n]); ok && !bytes.Equal(mac, l.MAC) {
			a.note(l.Index, mac, addr)
		}
	}
}

// arpRequest returns the frame that asks who has an address.
func arpRequest(mac net.HardwareAddr, from, to netip.Addr) []byte {
	f := make([]byte, 0, ethernetHeader+arpSize)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = append(f, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	f = append(f, mac...)
	f = append(f, from.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, to.AsSlice()...)
}

// parseARP returns the sender of an ARP packet in a frame. The result shares no
// memory with it.
func parseARP(f []byte) (net.HardwareAddr, netip.Addr, bool) {
	if len(f) < ethernetHeader+arpSize || !bytes.Equal(f[12:20], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4}) {
		return nil, netip.Addr{}, false
	}
	p := f[ethernetHeader:]
	if op := binary.BigEndian.Uint16(p[6:]); op != 1 && op != 2 || p[8]&1 != 0 {
		return nil, netip.Addr{}, false
	}
	return bytes.Clone(p[8:14]), netip.AddrFrom4([4]byte(p[14:18])), true
}

// table adds what the kernel knows.
func (a *arp) table() {
	neighbours, _ := link.Neighbours()
	for _, n := range neighbours {
		if n.Addr.Is4() && !n.Addr.IsMulticast() {
			a.note(n.Index, n.MAC, n.Addr)
		}
	}
}
