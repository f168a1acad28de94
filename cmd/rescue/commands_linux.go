package main

import "github.com/spf13/cobra"

// linuxCommands returns those that use namespaces or packet sockets.
func linuxCommands() []*cobra.Command {
	return []*cobra.Command{newListenCommand(), newVMCommand(), newDemoCommand()}
}
