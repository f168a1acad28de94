package shell

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// command is one command of the shell.
type command struct {
	group   string // in the help
	example string
	what    string
	run     func(ctx context.Context, s stdio, args []string) error
}

// usageError is wrong use of a command: exit status 2.
type usageError string

func (e usageError) Error() string { return string(e) }

// registry returns all commands by name.
func registry() map[string]command {
	all := map[string]command{
		"help":     {"This shell", "help", "show the commands, by purpose", help},
		"ip":       {"Network", "ip addr", "show links, addresses, routes; mend them", ip},
		"ping":     {"Network", "ping -c 3 ff02::1%eth0", "ask a host for an echo (IPv4 and IPv6)", ping},
		"ps":       {"System", "ps", "show processes", ps},
		"kill":     {"System", "kill -9 123", "send a signal to processes", kill},
		"free":     {"System", "free", "show memory", free},
		"uptime":   {"System", "uptime", "show how long this system is up, and its load", uptime},
		"dmesg":    {"System", "dmesg", "show the kernel's messages", dmesg},
		"logs":     {"System", "logs rescued -f", "show the log of a gokrazy service", logs},
		"reboot":   {"System", "reboot", "restart this system", reboot},
		"poweroff": {"System", "poweroff", "halt this system and switch it off", poweroff},
		"df":       {"Files", "df", "show space in file systems", df},
		"mount":    {"Files", "mount -t ext4 /dev/mmcblk0p4 /perm", "show or make mounts", mount},
		"umount":   {"Files", "umount /perm", "undo a mount", umount},
	}
	maps.Copy(all, coreutils())
	return all
}

// Command returns the command of that name. It gets its name as args[0], and
// returns the exit status.
func Command(name string) (func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int, bool) {
	c, ok := registry()[name]
	if !ok {
		return nil, false
	}
	return runner(c), true
}

func runner(c command) func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
		err := c.run(ctx, stdio{stdin, stdout, stderr}, args[1:])
		if err == nil {
			return 0
		}
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
		if _, ok := err.(usageError); ok {
			return exitUsage
		}
		return 1
	}
}

// groups is the order of the help.
var groups = []string{"Network", "System", "Files", "This shell"}

func help(_ context.Context, s stdio, _ []string) error {
	all := registry()
	for _, g := range groups {
		fmt.Fprintf(s.out, "%s\n", g)
		t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if c := all[name]; c.group == g {
				fmt.Fprintf(t, "  %s\t%s\t%s\n", name, c.what, c.example)
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(s.out, "And the shell's own: cd, echo, test, exit, for, if, while, pipes, variables.\n'rescue find' looks for neighbours, 'rescue status' shows what guards this listener.")
	return nil
}
