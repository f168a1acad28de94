package main

import (
	"fmt"
	"os"
	"testing"

	"rescue6/rescue/link/linktest"
)

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
