package scan

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rescue6/rescue/link/linktest"
)

// tshark reads each frame that a scan sends as what it is meant to be, and has
// nothing to complain of.
func TestTshark(t *testing.T) {
	n := newNonce()
	mac, from := linktest.CrowdLaptop, netip.MustParseAddr("fe80::1")
	var frames [][]byte
	for _, via := range probed {
		to := destination(via)
		toMAC := groupMAC(to)
		if via == ViaUnicast {
			to, toMAC = nodeAddr, nodeMAC
		}
		frames = append(frames, n.frame(probe{via, 1, 2, 1}, from, to, mac, toMAC))
	}
	frames = append(frames, arpRequest(mac, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")), mdnsFrame(browse()))
	for _, m := range reverse([]netip.Addr{nodeAddr, netip.MustParseAddr("2001:db8::7")}) {
		frames = append(frames, mdnsFrame(m))
	}
	want := []string{"128", "128", "128", "128", "128", "arp", "mdns", "mdns"}

	file := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0} // pcap, Ethernet
	for _, f := range frames {
		file = append(file, make([]byte, 8)...)
		file = binary.LittleEndian.AppendUint32(file, uint32(len(f)))
		file = binary.LittleEndian.AppendUint32(file, uint32(len(f)))
		file = append(file, f...)
	}
	path := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tshark", "-r", path, "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.protocols", "-e", "icmpv6.type", "-e", "icmpv6.checksum.status", "-e", "udp.checksum.status", "-e", "_ws.malformed", "-e", "_ws.expert.message").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d frames, want %d:\n%s", len(lines), len(want), out)
	}
	for i, l := range lines {
		f := strings.Split(l, "|")
		if !strings.Contains(f[0]+":"+f[1], want[i]) || f[2] != "" && f[2] != "1" || f[3] != "" && f[3] != "1" || f[4] != "" || strings.Contains(f[5], "alformed") {
			t.Errorf("frame %d, %x:\n%s", i, frames[i], l)
		}
	}
	t.Logf("tshark:\n%s", out)
}
