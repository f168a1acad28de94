// Command rescued guarantees an SSH listener on the IPv6 link-local addresses of
// this machine. It runs on every rescue6 instance, and as root on any Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"rescue6/rescue"
	"rescue6/rescue/listener"
	"rescue6/rescue/status"
)

// gokrazy stops supervising a service that ends with 0 or 125: neither may occur.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	err := run(context.Background(), os.Args, os.Stderr, log)
	fmt.Fprintf(os.Stderr, "rescued: %v\n", err)
	if usage := (*rescue.UsageError)(nil); errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// run is the whole command: it returns only when something is wrong.
func run(ctx context.Context, args []string, stderr io.Writer, log *slog.Logger) error {
	if len(args) == 2 {
		switch args[1] {
		case rescue.HolderRole:
			return rescue.Hold(log)
		case rescue.WorkerRole:
			return rescue.Work(ctx, log)
		}
	}
	s, err := parse(args[1:], stderr)
	if err != nil {
		return err
	}
	return rescue.Start(ctx, s)
}

// parse reads the flags.
func parse(args []string, stderr io.Writer) (rescue.Settings, error) {
	var s rescue.Settings
	var scope, exclude string
	f := flag.NewFlagSet("rescued", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&s.AuthorizedKeys, "authorized_keys", "/etc/rescue6/authorized_keys", "`file` with the public keys that may log in")
	f.StringVar(&s.HostKey, "host_key", "/etc/rescue6/host_key", "`file` with the Ed25519 host key")
	f.StringVar(&s.StateDir, "state_dir", "/perm/rescue", "`directory` for what may be lost")
	f.StringVar(&s.Control, "control", status.DefaultControl, "`path` of the control socket")
	f.IntVar(&s.Port, "port", rescue.DefaultPort, "TCP `port`, 1 to 65535; if another program has port 22, it is 2222 until that has gone")
	f.StringVar(&s.Session, "session", "", "`path` of rescue-session (default: beside rescued)")
	f.StringVar(&scope, "scope", string(listener.ScopeLink), "destinations that are answered: link, private or global")
	f.StringVar(&exclude, "exclude", "", "comma-separated `names` of interfaces to leave alone")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stderr, "usage: rescued [flags]")
		f.SetOutput(stderr)
		f.PrintDefaults()
		os.Exit(exitUsage)
	} else if err != nil {
		return s, usagef("%w: see rescued -help", err)
	}
	if f.NArg() > 0 {
		return s, usagef("rescued takes no arguments, but got %q", f.Args())
	}
	if s.Port < 1 || s.Port > 65535 {
		return s, usagef("-port %d: a port is 1 to 65535", s.Port)
	}
	var err error
	if s.Scope, err = listener.ParseScope(scope); err != nil {
		return s, usagef("-scope: %w", err)
	}
	if exclude != "" {
		s.Exclude = strings.Split(exclude, ",")
	}
	return s, absolute(&s)
}

// usagef returns an error of exit status 2.
func usagef(format string, args ...any) error {
	return &rescue.UsageError{Err: fmt.Errorf(format, args...)}
}

// absolute makes all paths absolute, since the working directory will be /, and
// finds rescue-session.
func absolute(s *rescue.Settings) error {
	if s.Session == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding rescue-session: %w", err)
		}
		s.Session = filepath.Join(filepath.Dir(exe), "rescue-session")
	}
	for _, p := range []*string{&s.Session, &s.HostKey, &s.AuthorizedKeys, &s.StateDir, &s.Control} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("finding %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}
