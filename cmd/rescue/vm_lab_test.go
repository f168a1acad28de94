package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"rescue6/rescue/link/linktest"
)

// What a lab has started ends with the process that started the lab, also when
// that is killed and cannot clean up.
func TestLabEndsWhenItsParentIsKilled(t *testing.T) {
	const parentEnv = "RESCUE6_TEST_PARENT"
	args := []string{"-test.run=^" + t.Name() + "$"}
	if _, inside := labDir(); inside {
		sleepInLab(t)
		return
	}
	if dir := os.Getenv(parentEnv); dir != "" {
		t.Fatal(labCommand{args: args, dir: dir, stdout: os.Stdout, stderr: os.Stderr}.run(context.Background()))
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	parent := exec.Command("/proc/self/exe", args...)
	parent.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	parent.Stdout, parent.Stderr = w, w
	err = parent.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewReader(r)
	if line, err := lines.ReadString('\n'); line != "sleeping\n" {
		t.Fatalf("the lab said %q (%v)", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	// The pipe's end comes when the last process that holds it is gone.
	if rest, err := io.ReadAll(lines); err != nil {
		t.Errorf("after the parent was killed, something of the lab lived on: %v: %q", err, rest)
	}
}

// sleepInLab is the lab: a process in a namespace within it that would stay.
func sleepInLab(t *testing.T) {
	if err := settleLab(); err != nil {
		t.Fatal(err)
	}
	n, err := linktest.New("inner")
	if err != nil {
		t.Fatal(err)
	}
	// In a session of its own, and started by a shell, which is not its parent
	// for long: nothing but the lab's end ends it.
	sleep := exec.Command("setsid", "sh", "-c", "sleep 600 & echo sleeping; exit")
	sleep.Stdout, sleep.Stderr = os.Stdout, os.Stderr
	if err := n.Start(sleep); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Minute) // until killed
}
