package gokrazy

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// tailSize is how much of the end of the console is kept, in bytes.
const tailSize = 16 << 10

// console receives what the guest prints, keeps the end of it, and notices the
// first byte and a kernel panic.
type console struct {
	alive    chan struct{} // closed at the first byte
	panicked chan struct{} // closed at a kernel panic

	mu   sync.Mutex
	out  io.Writer // may be nil
	last []byte    // never longer than tailSize
}

func newConsole(out io.Writer) *console {
	return &console{alive: make(chan struct{}), panicked: make(chan struct{}), out: out}
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeOnce(c.alive)
	c.last = keepTail(append(c.last, p...), tailSize)
	if bytes.Contains(c.last, []byte("Kernel panic - not syncing")) {
		closeOnce(c.panicked)
	}
	if c.out != nil {
		// The console of a guest must not stop because nobody can read it.
		c.out.Write(p)
	}
	return len(p), nil
}

// tail returns the last n lines without control characters, indented.
func (c *console) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lastLines(string(c.last), n)
}

// lastLines returns the last n lines of s that are not blank, each indented by
// four spaces, without the control characters with which a firmware draws its
// menus.
func lastLines(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r == 0x7f || r == '\uFFFD') {
			return -1
		}
		return r
	}, s)
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimRight(line, " \t\n"); line != "" {
			lines = append(lines, "    "+line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// stderr receives what QEMU itself says, and notices that KVM gave up.
type stderr struct {
	kvmFailed chan struct{}

	mu   sync.Mutex
	text []byte
}

func newStderr() *stderr { return &stderr{kvmFailed: make(chan struct{})} }

func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = keepTail(append(s.text, p...), tailSize)
	// "KVM internal error. Suberror: 1": the host's KVM cannot run what
	// firmware does, as with nested ones made in software. QEMU then pauses
	// the guest for ever.
	if bytes.Contains(s.text, []byte("KVM internal error")) {
		closeOnce(s.kvmFailed)
	}
	return len(p), nil
}

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(string(s.text))
}

// closeOnce closes a channel that only its caller closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// keepTail returns the last n bytes of b, in place.
func keepTail(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	return append(b[:0], b[len(b)-n:]...)
}
