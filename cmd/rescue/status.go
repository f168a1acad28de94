package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"rescue6/rescue/status"
)

// statusTimeout bounds how long rescued may take to answer.
const statusTimeout = 3 * time.Second

func newStatusCommand() *cobra.Command {
	var asJSON, incidents bool
	var control string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show links, addresses, listener, sessions, announcements and incidents of this machine's rescued",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			r, err := status.Fetch(ctx, control)
			if errors.Is(err, status.ErrNotPermitted) {
				return &exitError{exitNotPermitted, err}
			}
			if err != nil {
				return failf("%w", err)
			}
			switch out := cmd.OutOrStdout(); {
			case asJSON && incidents:
				return json.NewEncoder(out).Encode(r.Incidents)
			case asJSON:
				return json.NewEncoder(out).Encode(r)
			case incidents:
				return r.WriteIncidents(out)
			default:
				return r.WriteText(out)
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object, or with --incidents one array")
	cmd.Flags().BoolVar(&incidents, "incidents", false, "only what was wrong, and what mended it, oldest first")
	cmd.Flags().StringVar(&control, "control", status.DefaultControl, "`path` of rescued's control socket")
	return cmd
}
