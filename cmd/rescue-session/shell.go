package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"rescue6/rescue/memory"
	"rescue6/rescue/shell"
	"rescue6/rescue/status"
)

// greetingDeadline bounds how long a login waits to hear what is wrong.
const greetingDeadline = 300 * time.Millisecond

// runShell is the shell in a process of its own.
func runShell(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	memory.SetName("sh")
	setOOMScore(oomShell)
	return shell.Main(ctx, args, stdin, stdout, stderr, shellOptions())
}

// inlineShell is the shell in the session's own process, for when the kernel
// gives us no other.
func inlineShell(ctx context.Context, line string, login bool, stdin io.Reader, stdout, stderr io.Writer) int {
	var args []string
	if !login {
		args = []string{"-c", line}
	}
	return shell.Main(ctx, args, stdin, stdout, stderr, shellOptions())
}

func shellOptions() shell.Options {
	return shell.Options{
		Self:     []string{"/proc/self/exe", "cmd"},
		Greeting: greet,
	}
}

// command is one command of the shell in a process of its own.
func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	run, ok := shell.Command(args[0])
	if !ok {
		fmt.Fprintf(stderr, "rescue-session: there is no command %q: 'rescue-session cmd help' lists them\n", args[0])
		return exitUsage
	}
	memory.SetName(args[0])
	return run(ctx, args, stdin, stdout, stderr)
}

// greet writes what is wrong with the network, as rescued sees it.
func greet(w io.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), greetingDeadline)
	defer cancel()
	r, err := status.Fetch(ctx, control())
	if err != nil {
		fmt.Fprintf(w, "rescue6: %v\n", err)
		return
	}
	fmt.Fprint(w, r.Greeting())
}

// control is where this session's rescued says how it is.
func control() string {
	if path := os.Getenv("RESCUED_CONTROL"); path != "" {
		return path
	}
	return status.DefaultControl
}
