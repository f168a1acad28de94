//go:build linux

package link

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Neighbour is an entry of the neighbour table (RFC 4861 §5.1) with a known
// link-layer address.
type Neighbour struct {
	Index int // of the link
	Addr  netip.Addr
	MAC   net.HardwareAddr
}

// Neighbours reads the neighbour tables, of IPv6 and of IPv4 (ARP). A partial view is
// returned with an error.
func Neighbours() ([]Neighbour, error) {
	req := &nl.IfAddrmsg{}
	req.Family = unix.AF_UNSPEC
	msgs, err := dump(unix.RTM_GETNEIGH, req)
	var all []Neighbour
	for _, m := range msgs {
		if n, ok := parseNeighbour(m); ok {
			all = append(all, n)
		}
	}
	return all, err
}

// parseNeighbour reads an RTM_NEWNEIGH message (struct ndmsg and NDA_*).
func parseNeighbour(msg []byte) (Neighbour, bool) {
	h, attrs, err := header(msg, unix.SizeofNdMsg)
	if err != nil {
		return Neighbour{}, false
	}
	const unknown = unix.NUD_NONE | unix.NUD_INCOMPLETE | unix.NUD_FAILED | unix.NUD_NOARP
	if h[0] != unix.AF_INET6 && h[0] != unix.AF_INET || native.Uint16(h[8:])&unknown != 0 {
		return Neighbour{}, false
	}
	n := Neighbour{Index: int(int32(native.Uint32(h[4:])))}
	for kind, value := range attributes(attrs) {
		switch kind {
		case unix.NDA_DST:
			n.Addr, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			n.MAC = net.HardwareAddr(append([]byte{}, value...))
		}
	}
	return n, n.Addr.IsValid() && len(n.MAC) > 0
}
