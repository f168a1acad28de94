package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"rescue6/rescue/control"
)

// DefaultControl is where rescued listens for those who ask how it is.
const DefaultControl = "/run/rescued.sock"

// Serve answers each connection to the unix socket at path with one report, as
// JSON, until ctx ends. See [control.Serve].
func Serve(ctx context.Context, path string, report func() Report) error {
	return control.Serve(ctx, path, func(w io.Writer) error { return json.NewEncoder(w).Encode(report()) })
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
