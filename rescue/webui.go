package rescue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rescue6/rescue/memory"
	"rescue6/rescue/watchdog"
)

// gokrazy's own HTTP is watched where the user has enabled it. gokrazy looks names
// of links up in Go's cache, which is 60 s old at most: before that, asking it to
// listen again does not help.
const (
	webEvery      = 5 * time.Second
	webPatience   = time.Minute
	webMaxPause   = time.Hour
	webDeadline   = 2 * time.Second
	initProcess   = 1
	webFault      = "gokrazy's own HTTP does not answer"
	webRepairText = "gokrazy was told to listen again (SIGHUP)"
)

// watchWeb has gokrazy listen again on link-local addresses on which it should and
// does not. Where it listens on no address at all, as without a password, or is
// not the init of this system, there is nothing to watch.
func (w *worker) watchWeb(ctx context.Context) error {
	if !memory.OnInstance() {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(webEvery)
	defer tick.Stop()
	var since time.Duration // uptime at which it was seen to be gone; 0 while it answers
	var next, pause time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		name := w.webGone(ctx)
		now := watchdog.Uptime()
		switch {
		case name == "":
			since = 0
			w.journal.End(webFault, "")
		case since == 0:
			since, pause = now, webPatience
			next = now + pause
			w.journal.Begin(webFault, "")
			w.log.Warn("fault", "fault", webFault, "link", name)
		case now >= next:
			err := syscall.Kill(initProcess, syscall.SIGHUP)
			w.log.Info("repair", "fault", webFault, "link", name, "action", webRepairText, "err", err)
			w.journal.Repaired(webFault, "", webRepairText)
			pause = min(2*pause, webMaxPause)
			next = now + pause
		}
	}
}

// webGone returns the name of a link on which gokrazy's HTTP should answer and does
// not, "" if there is none.
func (w *worker) webGone(ctx context.Context) string {
	ports, err := listeningPorts(initProcess)
	if err != nil || len(ports) == 0 {
		return ""
	}
	for name, addrs := range w.usableAddresses() {
		for _, a := range addrs {
			for _, port := range ports {
				if err := connect(ctx, netip.AddrPortFrom(a, port)); errors.Is(err, syscall.ECONNREFUSED) || os.IsTimeout(err) {
					return name
				}
			}
		}
	}
	return ""
}

// usableAddresses returns the link-local addresses of each served link with a
// carrier, with the link's index as their zone: Go may take a name for what was
// called so a minute ago.
func (w *worker) usableAddresses() map[string][]netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]netip.Addr{}
	for _, l := range w.links {
		if ok, _ := w.policy.Serves(l); !ok || !l.Up || !l.Carrier {
			continue
		}
		for _, a := range l.LinkLocal() {
			if a.Usable() {
				all[l.Name] = append(all[l.Name], a.Prefix.Addr().WithZone(strconv.Itoa(l.Index)))
			}
		}
	}
	return all
}

// connect opens a TCP connection and closes it.
func connect(ctx context.Context, to netip.AddrPort) error {
	d := net.Dialer{Timeout: webDeadline}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}

// listeningPorts returns the TCP ports on which a process listens, in order
// (proc(5), /proc/net/tcp).
func listeningPorts(pid int) ([]uint16, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := filepath.Glob(dir + "fd/*")
	if err != nil {
		return nil, err
	}
	mine := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			mine[strings.Trim(to[len("socket:"):], "[]")] = true
		}
	}
	var ports []uint16
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		f, err := os.Open(dir + table)
		if err != nil {
			continue // a kernel without IPv4, or IPv6
		}
		ports = append(ports, listenersOf(f, mine)...)
		f.Close()
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// listenersOf returns the ports of the sockets in a table that listen and are
// among those inodes.
func listenersOf(table io.Reader, inodes map[string]bool) []uint16 {
	const local, state, inode, listening = 1, 3, 9, "0A"
	var ports []uint16
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) <= inode || f[state] != listening || !inodes[f[inode]] {
			continue
		}
		_, hex, _ := strings.Cut(f[local], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil {
			ports = append(ports, uint16(p))
		}
	}
	return ports
}
