//go:build packages

// Package builddir pins what the image is built from. Nothing compiles it: it tells
// 'go mod tidy' which modules to keep in go.mod.
package builddir

import (
	_ "github.com/gokrazy/firmware"
	_ "github.com/gokrazy/gokrazy"
	_ "github.com/gokrazy/gokrazy/cmd/dhcp"
	_ "github.com/gokrazy/gokrazy/cmd/heartbeat"
	_ "github.com/gokrazy/gokrazy/cmd/ntp"
	_ "github.com/gokrazy/gokrazy/cmd/randomd"
	_ "github.com/gokrazy/kernel.amd64"
	_ "github.com/gokrazy/kernel.rpi"
	_ "github.com/gokrazy/rpi-eeprom"

	_ "rescue6/cmd/rescue"
	_ "rescue6/cmd/rescue-session"
	_ "rescue6/cmd/rescued"
)
