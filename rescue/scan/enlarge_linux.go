package scan

import "golang.org/x/sys/unix"

// enlarge asks for a receive buffer, beyond the system's limit where this process
// may (socket(7)).
func enlarge(fd uintptr, size int) {
	if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
}
