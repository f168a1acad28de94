package main

import "github.com/spf13/cobra"

// commands returns every subcommand, in the order in which the help lists them.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newFindCommand(),
		newSSHCommand(),
		newListenCommand(),
		newStatusCommand(),
		newImageCommand(),
		newUpdateCommand(),
		newVMCommand(),
		newDemoCommand(),
		newHostKeyCommand(),
	}
}
