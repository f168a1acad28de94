package main

import "github.com/spf13/cobra"

// commands returns every subcommand, in the order in which the help lists them.
func commands() []*cobra.Command {
	return append([]*cobra.Command{
		newFindCommand(),
		newSSHCommand(),
		newStatusCommand(),
		newImageCommand(),
		newUpdateCommand(),
		newHostKeyCommand(),
	}, linuxCommands()...)
}
