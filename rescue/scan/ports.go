package scan

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// CommonPorts are the TCP ports on which machines at home are asked for something.
var CommonPorts = []uint16{21, 22, 23, 25, 53, 80, 110, 139, 143, 443, 445, 548, 554, 631, 993, 1883, 2049, 2222, 3000, 3389, 5000, 5900, 8000, 8080, 8443, 8883, 9100, 32400}

// portTimeout is for one connection on the same link.
const portTimeout = time.Second

// Ports asks the first address of each host, this machine left out, which of these
// TCP ports accept a connection, and puts them into the hosts. It opens 128
// connections at a time and closes each at once.
func Ports(ctx context.Context, hosts []Host, ports []uint16) {
	slots := make(chan struct{}, 128)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range hosts {
		h := &hosts[i]
		if h.Self {
			continue
		}
		for _, port := range ports {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				d := net.Dialer{Timeout: portTimeout}
				d.SetMultipathTCP(false)
				c, err := d.DialContext(ctx, "tcp6", netip.AddrPortFrom(h.Addresses[0].Addr, port).String())
				if err != nil {
					return
				}
				c.Close()
				mu.Lock()
				defer mu.Unlock()
				h.Ports = append(h.Ports, port)
			})
		}
	}
	wg.Wait()
	for i := range hosts {
		slices.Sort(hosts[i].Ports)
	}
}
