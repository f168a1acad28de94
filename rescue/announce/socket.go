//go:build linux

package announce

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// writeTimeout bounds how long the announcements of all links wait for one whose
// queue is full.
const writeTimeout = time.Second

// allNodesMAC is where Ethernet sends packets for ff02::1 (RFC 2464 §7).
var allNodesMAC = net.HardwareAddr{0x33, 0x33, 0x00, 0x00, 0x00, 0x01}

// frame puts an Ethernet header (RFC 2464 §3) in front of a packet to all nodes.
// The source is the announced MAC address, so that switches learn the same.
func frame(source [6]byte, packet []byte) []byte {
	f := make([]byte, 0, 14+len(packet))
	f = append(f, allNodesMAC...)
	f = append(f, source[:]...)
	f = append(f, unix.ETH_P_IPV6>>8, unix.ETH_P_IPV6&0xff)
	return append(f, packet...)
}

// A linkWriter writes Ethernet frames to one link.
type linkWriter struct{ conn *packet.Conn }

// openLink opens a packet socket for sending on the link with this index. An
// address is not needed for that, let alone a usable one.
func openLink(index int) (io.WriteCloser, error) {
	// Protocol 0: nothing is ever received, so nothing is copied or queued.
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Raw, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("opening packet socket on interface %d: %w", index, err)
	}
	return linkWriter{conn}, nil
}

func (w linkWriter) Write(frame []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, fmt.Errorf("sending announcement: %w", err)
	}
	n, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: allNodesMAC})
	if err != nil {
		return n, fmt.Errorf("sending announcement: %w", err)
	}
	return n, nil
}

func (w linkWriter) Close() error { return w.conn.Close() }
