// Package control has the unix sockets on which the programs of an instance tell how
// they are.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// writeTimeout bounds how long a client that does not read may keep us.
const writeTimeout = 2 * time.Second

// Serve answers each connection to the unix socket at path with what tell writes,
// until ctx ends. The socket is made anew, for root alone (mode 0600).
func Serve(ctx context.Context, path string, tell func(io.Writer) error) error {
	l, err := listen(path)
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
		// One at a time: an answer takes milliseconds, and whoever does not read it
		// is cut off.
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
		_ = tell(c)
		c.Close()
	}
}

// listen makes the socket under another name and renames it: whoever looks
// finds the old one or the new one, with the right mode, never none.
func listen(path string) (net.Listener, error) {
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
