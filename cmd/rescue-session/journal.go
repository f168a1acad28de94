package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// maxJournal bounds the file of incidents, in bytes.
const maxJournal = 1 << 20

// journal reads or writes the file of incidents, for rescued, which never touches
// the card. A file that does not exist is empty.
func journal(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("journal", flag.ContinueOnError)
	f.SetOutput(stderr)
	write := f.String("write", "", "`file` to replace by standard input")
	read := f.String("read", "", "`file` to print")
	if err := f.Parse(args); err != nil {
		return exitUsage
	}
	if err := journalFile(*write, *read, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func journalFile(write, read string, stdin io.Reader, stdout io.Writer) error {
	if read != "" {
		f, err := os.Open(read)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(stdout, io.LimitReader(f, maxJournal))
		return err
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxJournal))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(write), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(write, text, 0o600)
}
