// Command rescue finds and opens what IPv4 has lost: it runs on the laptop, and
// on each instance, so that one instance can rescue another.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses that scripts may rely on.
const (
	exitOK           = 0 // it worked; find: something was found
	exitNothing      = 1 // it did not work; find: nothing was found
	exitUsage        = 2 // wrong use: the arguments or a file must change
	exitNotPermitted = 3 // not permitted, or no usable link: the machine must change
)

// exitError is an error with the exit status it ends the command with. A nil
// err prints nothing.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usagef returns an error for wrong use, exit status 2. Its text names the fix.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// failf returns an error for something that was asked rightly and did not work,
// exit status 1.
func failf(format string, args ...any) error {
	return &exitError{exitNothing, fmt.Errorf(format, args...)}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "rescue",
		Short:         "Find a Raspberry Pi by IPv6 link-local and log in, when IPv4 is dead",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w: see '%s --help'", err, cmd.CommandPath())
	})
	root.AddCommand(commands()...)
	return root
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	os.Exit(report(err))
}

// report prints err the way every command does and returns the exit status.
func report(err error) int {
	if err == nil {
		return exitOK
	}
	var e *exitError
	if errors.As(err, &e) {
		if e.err != nil {
			fmt.Fprintf(os.Stderr, "rescue: %v\n", e.err)
		}
		return e.status
	}
	fmt.Fprintf(os.Stderr, "rescue: %v\n", err)
	return exitUsage
}
