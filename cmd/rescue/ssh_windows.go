package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// become runs another program and ends as it does.
func become(ctx context.Context, path string, argv []string) error {
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &exitError{status: exit.ExitCode()}
	}
	return failf("running %s: %w", path, err)
}
