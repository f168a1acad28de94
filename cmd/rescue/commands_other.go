//go:build !linux

package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// linuxCommands returns commands that say where they work.
func linuxCommands() []*cobra.Command {
	var all []*cobra.Command
	for _, name := range []string{"listen", "vm", "demo"} {
		all = append(all, &cobra.Command{
			Use: name, Short: "Needs Linux", DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return usagef("rescue %s needs Linux, and this is %s: run it there, or in a virtual machine", name, runtime.GOOS)
			},
		})
	}
	return all
}
