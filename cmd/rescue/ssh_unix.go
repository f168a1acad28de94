//go:build unix

package main

import (
	"context"
	"os"
	"syscall"
)

// become puts another program in the place of this one.
func become(_ context.Context, path string, argv []string) error {
	return failf("running %s: %w", path, syscall.Exec(path, argv, os.Environ()))
}
