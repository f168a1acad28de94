package main

import (
	"context"

	"github.com/spf13/cobra"
)

var _ = context.Background
var _ cobra.Command
