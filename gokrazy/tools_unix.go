//go:build unix

package gokrazy

import (
	"os/exec"
	"syscall"
)

// endWithUs has an interrupt go to the tool, and to what it started, through us.
func endWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
