package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"rescue6/rescue/control"
)

// DefaultControl is where scand tells what it knows.
const DefaultControl = "/run/scand.sock"

// Serve tells what the monitor knows to each connection to the unix socket at path:
// a [Record] per line, as JSON. See [control.Serve].
func Serve(ctx context.Context, path string, m *Monitor) error {
	return control.Serve(ctx, path, m.Save)
}

// Known asks the monitor behind the socket at path for what it knows.
func Known(ctx context.Context, path string) ([]Record, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("asking scand: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var all []Record
	for dec := json.NewDecoder(c); ; {
		var r Record
		switch err := dec.Decode(&r); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("reading the answer of scand: %w", err)
		}
		all = append(all, r)
	}
}
