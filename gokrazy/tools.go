package gokrazy

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// runTool runs a program of others and, if it fails, returns the end of what it
// said.
func runTool(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	endWithUs(cmd)
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("%w:\n%s", err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return nil
}
