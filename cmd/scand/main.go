// Command scand knows the neighbours of this machine, and tells them its name. It runs
// on every rescue6 instance, apart from rescued, because it reads what anybody on the
// link says.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"

	"rescue6/rescue/link"
	"rescue6/rescue/mdns"
	"rescue6/rescue/scan"
)

// saveEvery is how often the neighbours are written to the card at most: cards wear
// out.
const saveEvery = 5 * time.Minute

func main() {
	var s settings
	flag.StringVar(&s.control, "control", scan.DefaultControl, "`path` of the socket that tells the neighbours")
	flag.StringVar(&s.stateDir, "state_dir", "/perm/rescue", "`directory` for what may be lost")
	flag.StringVar(&s.hostKey, "host_key", "/etc/rescue6/host_key", "`file` with the host key whose fingerprint is told")
	port := flag.Uint("port", 22, "`port` of SSH that is told")
	flag.Parse()
	if flag.NArg() > 0 || *port == 0 || *port > 65535 {
		fmt.Fprintln(os.Stderr, "scand: it takes flags only, and a port is 1 to 65535: see scand -help")
		os.Exit(2)
	}
	s.port = uint16(*port)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "scand: %v\n", err)
		os.Exit(1) // gokrazy starts it again
	}
}

type settings struct {
	control, stateDir, hostKey string
	port                       uint16
}

func run(ctx context.Context, s settings) error {
	// It has little garbage and shall stay small.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("asking for the hostname: %w", err)
	}
	fingerprint, err := fingerprint(s.hostKey)
	if err != nil {
		return err
	}
	m := scan.NewMonitor(log)
	file := filepath.Join(s.stateDir, "neighbours.json")
	if f, err := os.Open(file); err == nil {
		m.Load(f)
		f.Close()
	}
	r := mdns.New(mdns.Service{Hostname: hostname, Port: s.port, Fingerprint: fingerprint}, log)

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.Run(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := r.Run(ctx, func() ([]link.Link, error) { return scan.Links(nil) }); err != nil {
				log.Warn("telling this machine's name", "err", err)
			}
			wait(ctx, 5*time.Second)
		}
	})
	wg.Go(func() { keep(ctx, m, file, log) })
	err = scan.Serve(ctx, s.control, m)
	cancel()
	return err
}

// fingerprint returns that of a host key. The public half is enough, if there is a
// file with it.
func fingerprint(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return "", fmt.Errorf("reading the host key %s: %w", path, err)
	}
	return ssh.FingerprintSHA256(key.PublicKey()), nil
}

// keep writes the neighbours to the card when somebody new has come. The card may
// fail, or hang: that keeps nothing else.
func keep(ctx context.Context, m *scan.Monitor, file string, log *slog.Logger) {
	known := -1
	said := ""
	for more := true; more; {
		more = wait(ctx, saveEvery) // at the end once more
		n := len(m.Records())
		if n == known && more {
			continue
		}
		text := ""
		if err := save(m, file); err != nil {
			text = err.Error()
		} else {
			known = n
		}
		if text != said && text != "" {
			log.Warn("neighbours are kept in memory only", "err", text)
		}
		said = text
	}
}

func save(m *scan.Monitor, file string) error {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := errors.Join(m.Save(w), w.Flush(), os.MkdirAll(filepath.Dir(file), 0o700)); err != nil {
		return err
	}
	return renameio.WriteFile(file, b.Bytes(), 0o600)
}

// wait says whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
