package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// interactive reads and runs lines until the end of input or an exit. The
// terminal is raw only while a line is edited: what runs has an ordinary one, on
// which Ctrl-C is an interrupt.
func interactive(ctx context.Context, r *interp.Runner, tty *os.File, out io.Writer, opt Options) int {
	// The terminal sends these to the shell, too; only what runs should heed them.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGQUIT, syscall.SIGTSTP)
	defer signal.Stop(caught)

	if opt.Greeting != nil {
		opt.Greeting(out)
	}
	e := newEditor(tty, out)
	defer e.close()
	status := 0
	text := ""
	for ctx.Err() == nil {
		e.SetPrompt(prompt(r, text != ""))
		line, err := e.line()
		if err != nil {
			fmt.Fprintln(out)
			return status
		}
		if line == interrupted {
			text = ""
			continue
		}
		text += line + "\n"
		if len(text) > maxLine {
			fmt.Fprintf(out, "sh: a command of more than %d bytes\n", maxLine)
			text = ""
			continue
		}
		file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		text = ""
		if err != nil {
			fmt.Fprintf(out, "sh: %v\n", err)
			status = exitUsage
			continue
		}
		var exited bool
		if status, exited = runFile(ctx, r, file, out); exited {
			return status
		}
	}
	return status
}

func prompt(r *interp.Runner, more bool) string {
	if more {
		return "> "
	}
	host, _ := os.Hostname()
	return fmt.Sprintf("root@%s:%s# ", host, r.Dir)
}

// editor edits lines on a terminal.
type editor struct {
	*term.Terminal
	tty    *os.File
	input  *interruptible
	resize chan os.Signal
	done   chan struct{}
}

func newEditor(tty *os.File, out io.Writer) *editor {
	in := &interruptible{r: tty}
	e := &editor{
		Terminal: term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{in, out}, ""),
		tty: tty, input: in, resize: make(chan os.Signal, 1), done: make(chan struct{}),
	}
	e.AutoCompleteCallback = complete
	signal.Notify(e.resize, syscall.SIGWINCH)
	go e.followSize()
	e.fit()
	return e
}

func (e *editor) close() {
	signal.Stop(e.resize)
	close(e.done)
}

func (e *editor) followSize() {
	for {
		select {
		case <-e.resize:
			e.fit()
		case <-e.done:
			return
		}
	}
}

// fit tells the editor the size of the window. A window of 0×0, which some
// programs give, is taken for the usual one.
func (e *editor) fit() {
	w, h, err := term.GetSize(int(e.tty.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		w, h = 80, 24
	}
	_ = e.SetSize(w, h)
}

// interrupted is what line returns when Ctrl-C was typed.
const interrupted = "\x03"

// line reads one line.
func (e *editor) line() (string, error) {
	state, err := term.MakeRaw(int(e.tty.Fd()))
	if err != nil {
		return "", err
	}
	defer term.Restore(int(e.tty.Fd()), state)
	line, err := e.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	if e.input.interrupted {
		e.input.interrupted = false
		return interrupted, nil
	}
	return line, err
}

// interruptible turns Ctrl-C into keys that x/term knows: it would take it for
// the end of input. The line is emptied and entered.
type interruptible struct {
	r           io.Reader
	interrupted bool
	rest        []byte
}

func (i *interruptible) Read(p []byte) (int, error) {
	if len(i.rest) == 0 {
		buf := make([]byte, len(p))
		n, err := i.r.Read(buf)
		if n == 0 {
			return 0, err
		}
		i.rest = buf[:n]
		if at := bytes.IndexByte(i.rest, 3); at >= 0 {
			i.interrupted = true
			// Ctrl-E, Ctrl-U, Enter; what was typed before is lost with the line.
			i.rest = append([]byte("\x05\x15\r"), i.rest[at+1:]...)
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

// complete completes the word before the cursor on Tab: the name of a command, or
// of a file.
func complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	start := strings.LastIndexAny(line[:pos], " \t;|&") + 1
	word := line[start:pos]
	var found []string
	if first := strings.TrimSpace(line[:start]); (first == "" || strings.HasSuffix(first, "|") || strings.HasSuffix(first, ";")) && !strings.Contains(word, "/") {
		for name := range registry() {
			if strings.HasPrefix(name, word) {
				found = append(found, name+" ")
			}
		}
	} else {
		matches, _ := filepath.Glob(word + "*")
		for _, m := range matches {
			if st, err := os.Stat(m); err == nil && st.IsDir() {
				m += "/"
			} else if len(matches) == 1 {
				m += " "
			}
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return line, pos, true
	}
	sort.Strings(found)
	common := found[0]
	for _, f := range found[1:] {
		for !strings.HasPrefix(f, common) {
			common = common[:len(common)-1]
		}
	}
	if len(common) < len(word) {
		return line, pos, true
	}
	return line[:start] + common + line[pos:], start + len(common), true
}
