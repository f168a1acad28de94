//go:build !linux

package scan

// enlarge does nothing: packet sockets are Linux's.
func enlarge(uintptr, int) {}
