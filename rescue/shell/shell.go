// Package shell is the shell of a session and its commands, in Go: an instance has
// no other. The language is mvdan.cc/sh's; the lines are edited with
// golang.org/x/term; each command runs as a process of its own, so that Ctrl-C
// ends it and a dead card hangs nothing else.
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Options are what the shell needs from the program that it is part of.
type Options struct {
	// Self is the start of the command line that runs a command of this package
	// as a process: the command's name and arguments follow.
	Self []string
	// Greeting is called once, before the first prompt. It may be nil.
	Greeting func(io.Writer)
}

// path is where programs are found that are not commands of the shell.
const path = "/user:/perm/bin:/gokrazy:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

// ours marks a command of this package with the name of a builtin.
const ours = "rescue6:"

// maxLine bounds a script given in the arguments or typed, in bytes.
const maxLine = 1 << 20

// The exit statuses of a shell (POSIX, XCU 2.8.2).
const (
	exitUsage    = 2
	exitNotFound = 127
)

// Main runs the shell: with "-c" and a command, that command; without arguments,
// lines from stdin, edited if it is a terminal. It returns the exit status.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, opt Options) int {
	r, err := newRunner(stdin, stdout, stderr, opt)
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return exitUsage
	}
	switch {
	case len(args) == 2 && args[0] == "-c":
		return runText(ctx, r, args[1], stderr)
	case len(args) != 0:
		fmt.Fprintln(stderr, "usage: sh [-c COMMAND]")
		return exitUsage
	}
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return interactive(ctx, r, f, stdout, opt)
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxLine+1))
	if err != nil {
		fmt.Fprintf(stderr, "sh: reading the script: %v\n", err)
		return exitUsage
	}
	return runText(ctx, r, string(text), stderr)
}

func newRunner(stdin io.Reader, stdout, stderr io.Writer, opt Options) (*interp.Runner, error) {
	env := append(os.Environ(), "PATH="+path)
	if os.Getenv("HOME") == "" {
		env = append(env, "HOME=/")
	}
	return interp.New(
		interp.StdIO(stdin, stdout, stderr),
		interp.Env(expand.ListEnviron(env...)),
		// The interpreter takes names such as kill for builtins, which it has not.
		interp.CallHandler(func(_ context.Context, args []string) ([]string, error) {
			if _, ok := registry()[args[0]]; ok && interp.IsBuiltin(args[0]) {
				args = append([]string{ours + args[0]}, args[1:]...)
			}
			return args, nil
		}),
		interp.ExecHandlers(func(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(ctx context.Context, args []string) error { return execute(ctx, args, opt.Self, next) }
		}),
	)
}

// runText parses and runs a whole text.
func runText(ctx context.Context, r *interp.Runner, text string, stderr io.Writer) int {
	if len(text) > maxLine {
		fmt.Fprintf(stderr, "sh: a command of more than %d bytes: put it into a file under /perm and run that\n", maxLine)
		return exitUsage
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return exitUsage
	}
	status, _ := runFile(ctx, r, file, stderr)
	return status
}

// runFile runs what was parsed, and says whether that was the shell's own end, an
// exit. An interrupt and an error end what runs only.
func runFile(ctx context.Context, r *interp.Runner, file *syntax.File, stderr io.Writer) (code int, exited bool) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGQUIT)
	defer stop()
	err := r.Run(ctx, file)
	var status interp.ExitStatus
	switch {
	case ctx.Err() != nil:
		return 128 + int(syscall.SIGINT), false
	case err == nil:
		return 0, r.Exited()
	case errors.As(err, &status):
		return int(status), r.Exited()
	}
	fmt.Fprintf(stderr, "sh: %v\n", err)
	return 1, false
}
