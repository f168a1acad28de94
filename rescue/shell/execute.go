package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
)

// killAfter is how long a command has to end after an interrupt.
const killAfter = 2 * time.Second

// execute runs a command of the shell as a process, in this process if there can
// be no other, and anything else as a program found in PATH.
func execute(ctx context.Context, args, self []string, next interp.ExecHandlerFunc) error {
	hc := interp.HandlerCtx(ctx)
	args[0] = strings.TrimPrefix(args[0], ours)
	run, ok := Command(args[0])
	if !ok {
		if _, err := interp.LookPathDir(hc.Dir, hc.Env, args[0]); err != nil {
			fmt.Fprintf(hc.Stderr, "sh: %s: not found%s\n", args[0], suggestion(args[0]))
			return interp.ExitStatus(exitNotFound)
		}
		return next(ctx, args)
	}
	if len(self) > 0 {
		argv := append(append([]string{}, self...), args...)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Args[0] = args[0]
		cmd.Env, cmd.Dir = environ(hc.Env), hc.Dir
		cmd.Stdin, cmd.Stdout, cmd.Stderr = hc.Stdin, hc.Stdout, hc.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = killAfter
		if err := cmd.Start(); err == nil {
			return ended(ctx, cmd.Wait())
		}
	}
	return exitStatus(run(ctx, args, hc.Stdin, hc.Stdout, hc.Stderr))
}

func ended(ctx context.Context, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return interp.ExitStatus(128 + int(ws.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

func exitStatus(code int) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}

// environ returns the exported variables.
func environ(env expand.Environ) []string {
	var all []string
	for name, v := range env.Each {
		if v.Exported && v.IsSet() {
			all = append(all, name+"="+v.String())
		}
	}
	return all
}

// suggestion returns the nearest command, if one is near.
func suggestion(name string) string {
	best, at := "", 3
	for have := range registry() {
		if d := distance(name, have); d < at || d == at && have < best {
			best, at = have, d
		}
	}
	if best == "" || at >= len(name) {
		return " ('help' lists the commands)"
	}
	return " (did you mean " + strings.TrimSpace(best) + "?)"
}

// distance is the number of edits between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
