// Command rescue-session is one SSH connection: rescued starts it, keeps one warm,
// and hands it a connection. The shell of that session and its commands are the
// same program in other roles, so that none of it is read from the card.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
)

const usage = `usage: rescue-session ROLE

  serve                    one SSH connection, from rescued (descriptors 3 and 4)
  keys                     read and check the keys, and write them as rescued wants them
  probe [ADDR%IF]:PORT     a handshake with the own listener
  journal -read|-write F   read or write the file of incidents
  sh [-c COMMAND]          the shell
  cmd NAME [ARGS…]         one command of the shell

rescued starts it; there is nothing to start by hand but sh and cmd.
`

// exitUsage is the exit status for wrong use: arguments or a file must change.
const exitUsage = 2

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	role := ""
	if len(args) > 0 {
		role, args = args[0], args[1:]
	}
	switch role {
	case "serve":
		log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
		return serve(ctx, log)
	case "keys":
		return keys(args, stdout, stderr)
	case "probe":
		return probe(args, stderr)
	case "journal":
		return journal(args, stdin, stdout, stderr)
	case "sh":
		return runShell(ctx, args, stdin, stdout, stderr)
	case "cmd":
		return command(ctx, args, stdin, stdout, stderr)
	}
	fmt.Fprint(stderr, usage)
	return exitUsage
}

// withoutTime leaves out what rescued's own log line has already.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}
