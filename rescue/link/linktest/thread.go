package linktest

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// goThread runs f in a goroutine on a thread of its own, which ends with it and
// so may be spoilt. It is never the main thread: that one does not end, and
// /proc/self shows its namespace.
func goThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // still locked, which ends the thread
		}
		// Holding the main thread here gives the next goroutine another one.
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		goThread(func() {
			defer close(done)
			f()
		})
		<-done
	}()
}
