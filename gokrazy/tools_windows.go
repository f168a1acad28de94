package gokrazy

import "os/exec"

// endWithUs leaves it to Windows.
func endWithUs(*exec.Cmd) {}
