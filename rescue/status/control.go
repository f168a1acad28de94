package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultControl is where rescued listens for those who ask how it is.
const DefaultControl = "/run/rescued.sock"

// writeTimeout bounds how long a client that does not read may keep us.
const writeTimeout = 2 * time.Second

// Serve answers each connection to the unix socket at path with one report, as
// JSON, until ctx ends. The socket is made anew, for root alone (mode 0600).
func Serve(ctx context.Context, path string, report func() Report) error {
	l, err := listenUnix(path)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting on %s: %w", path, err)
		}
		// One at a time: a report takes a millisecond, and whoever does not read
		// it is cut off.
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
		_ = json.NewEncoder(c).Encode(report())
		c.Close()
	}
}

// listenUnix makes the socket under another name and renames it: whoever looks
// finds the old one or the new one, with the right mode, never none.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the control socket: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing an old control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on the control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		l.Close()
		os.Remove(tmp)
		return nil, fmt.Errorf("placing the control socket: %w", err)
	}
	return l, nil
}

// ErrNotPermitted says that the control socket is there, for somebody else.
var ErrNotPermitted = errors.New("only root may ask rescued: use sudo")

// Fetch asks the instance behind the control socket at path for its report.
func Fetch(ctx context.Context, path string) (Report, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return Report{}, fmt.Errorf("rescued is not running here: nothing answers at %s", path)
	case errors.Is(err, fs.ErrPermission):
		return Report{}, fmt.Errorf("%s: %w", path, ErrNotPermitted)
	case err != nil:
		return Report{}, fmt.Errorf("asking rescued: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var r Report
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return Report{}, fmt.Errorf("reading the answer of rescued: %w", err)
	}
	return r, nil
}
