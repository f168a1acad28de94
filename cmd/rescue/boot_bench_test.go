package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rescue6/gokrazy"
)

// BenchmarkBoot is how long after power-on the SSH banner comes from the VM's fe80
// address.
func BenchmarkBoot(b *testing.B) { bootBench(b, "", 22, "", "SSH-2.0-", "rescue6-ssh-s") }

// BenchmarkBootStock is how long after power-on stock gokrazy, the same image
// without anything of rescue6, answers HTTP there.
func BenchmarkBootStock(b *testing.B) {
	repo := ""
	if _, inside := labDir(); !inside {
		repo = stockRepository(b)
	}
	bootBench(b, repo, 80, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.", "gokrazy-http-s")
}

// boots is how often; the median counts.
const boots = 3

func bootBench(b *testing.B, repo string, port uint16, say, want, unit string) {
	inBootLab(b, plan{machine: gokrazy.VM, repo: repo, password: updatePassword}, func(p plan) {
		for b.Loop() {
			var took []time.Duration
			for range boots {
				began := time.Now()
				w, err := bootWorld(b.Context(), p)
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, firstAnswer(w, began, port, say, want))
				w.Close()
			}
			slices.Sort(took)
			if took[0] == 0 {
				b.Fatal("there was no answer")
			}
			b.ReportMetric(took[boots/2].Seconds(), unit)
		}
		b.ReportMetric(0, "ns/op")
	})
}

// stockRepository makes what passes for a checkout, whose image has no package of
// rescue6.
func stockRepository(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	files := map[string][]byte{}
	for _, name := range []string{"go.mod", "go.sum", "builddir/go.mod", "builddir/go.sum"} {
		files[name] = read(name)
	}
	var config map[string]any
	if err := json.Unmarshal(read("config.json"), &config); err != nil {
		b.Fatal(err)
	}
	config["Packages"] = []string{}
	text, err := json.Marshal(config)
	if err != nil {
		b.Fatal(err)
	}
	files["config.json"] = text
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, text, 0o600)); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// firstAnswer asks until an answer begins as it should, and returns how long that
// took, 0 if the world ended before.
func firstAnswer(w *world, began time.Time, port uint16, say, want string) time.Duration {
	ctx, cancel := context.WithTimeout(w.ctx, bootLimit)
	defer cancel()
	addr := netip.AddrPortFrom(w.eui64().WithZone("eth0"), port).String()
	for ctx.Err() == nil {
		if strings.HasPrefix(ask(ctx, w, addr, say), want) {
			return time.Since(began)
		}
	}
	return 0
}

// ask connects to the guest, says something, and returns the first line of the
// answer, "" if there is none.
func ask(ctx context.Context, w *world, addr, say string) string {
	var conn net.Conn
	if err := w.laptop.Do(func() (err error) {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, "tcp6", addr)
		return err
	}); err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, say)
	line, _ := bufio.NewReader(io.LimitReader(conn, 1000)).ReadString('\n')
	return line
}
