package gokrazy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	monitorSocket = "qmp.sock" // in the guest's directory
	monitorFD     = 3          // the listening socket, in QEMU
)

// monitorListener makes the socket on which QEMU is to listen. Because it
// listens before QEMU starts, a client never comes too early.
func monitorListener(dir string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, monitorSocket)})
	if err != nil {
		return nil, fmt.Errorf("making the socket of QEMU's monitor: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	return l.File()
}

// Monitor runs one command of QEMU's human monitor, such as "set_link net0 off"
// or "drive_del disk", and returns what it prints. Most commands print nothing
// when they have worked.
func (g *Guest) Monitor(ctx context.Context, command string) (string, error) {
	out, err := qmp(ctx, filepath.Join(g.dir, monitorSocket), command)
	if err != nil {
		return "", fmt.Errorf("asking QEMU's monitor for %q: %w", command, err)
	}
	return out, nil
}

// qmp speaks QEMU's machine protocol (QEMU's docs/interop/qmp-spec.txt) for the
// one command that reaches the human monitor.
func qmp(ctx context.Context, socket, command string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	conn.SetDeadline(time.Now().Add(30 * time.Second))

	dec, enc := json.NewDecoder(conn), json.NewEncoder(conn)
	var greeting struct {
		QMP json.RawMessage
	}
	if err := dec.Decode(&greeting); err != nil {
		return "", fmt.Errorf("reading the greeting: %w", err)
	}
	type request struct {
		Execute   string            `json:"execute"`
		Arguments map[string]string `json:"arguments,omitempty"`
	}
	var out string
	for _, req := range []request{
		{Execute: "qmp_capabilities"},
		{Execute: "human-monitor-command", Arguments: map[string]string{"command-line": command}},
	} {
		if err := enc.Encode(req); err != nil {
			return "", err
		}
		ret, err := reply(dec)
		if err != nil {
			return "", err
		}
		// The first command returns an empty object, which leaves out as it is.
		json.Unmarshal(ret, &out)
	}
	return out, nil
}

// reply reads up to the answer of the last command; events come in between.
func reply(dec *json.Decoder) (json.RawMessage, error) {
	for {
		var m struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := dec.Decode(&m); err != nil {
			return nil, err
		}
		if m.Error != nil {
			return nil, fmt.Errorf("%s", m.Error.Desc)
		}
		if m.Return != nil {
			return m.Return, nil
		}
	}
}
