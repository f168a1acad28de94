package oui

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	for _, tt := range []struct{ mac, want string }{
		{"b8:27:eb:12:34:56", "Raspberry Pi Foundation"},
		{"dc:a6:32:00:00:00", "Raspberry Pi Trading Ltd"},
		{"52:54:00:12:34:56", "QEMU virtual NIC"},
		{"02:00:00:00:00:01", Random},
		{"00:16:3e:00:00:01", "Xensource, Inc."},
		{"2c:cf:67:00:00:01", "Raspberry Pi (Trading) Ltd"},
		{"00:1b:c5:00:00:01", "Converging Systems Inc."},
		{"00:55:da:1f:00:01", "KoolPOS Inc."},
	} {
		mac, err := net.ParseMAC(tt.mac)
		if err != nil {
			t.Fatal(err)
		}
		if got := Lookup(mac); got != tt.want {
			t.Errorf("Lookup(%s) = %q, want %q", tt.mac, got, tt.want)
		}
	}
	if got := Lookup(nil); got != "" {
		t.Errorf("Lookup of no address = %q", got)
	}
}

// Every line is found by its own digits, and nothing by those in between.
func TestFind(t *testing.T) {
	lines := bufio.NewScanner(strings.NewReader(table()))
	n := 0
	for lines.Scan() {
		n++
		digits, name, _ := strings.Cut(lines.Text(), "\t")
		if n%50 == 0 {
			if got := find(table(), digits+"\t"); got != name {
				t.Fatalf("find(%s) = %q, want %q", digits, got, name)
			}
		}
	}
	if n < 40_000 {
		t.Errorf("only %d blocks", n)
	}
	for _, key := range []string{"", "000000G\t", "FFFFFF\t", "ZZZ\t"} {
		if got := find("A\tx\nB\ty\n", key); key != "" && got != "" {
			t.Errorf("find(%q) = %q", key, got)
		}
	}
}
