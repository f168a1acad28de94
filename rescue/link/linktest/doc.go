// Package linktest builds links out of the kernel's own parts: network
// namespaces, veth pairs and bridges, made for one process and gone with it.
//
// The kernel is not faked, since a namespace is cheap (under a millisecond). A
// namespace has no name under /run/netns: it lives as long as the process that
// made it, what was started in it, and the sockets that were opened in it, so
// that nothing stays behind even after SIGKILL.
//
// Links that this package makes finish duplicate address detection in about
// 0.1 s instead of the usual 1 to 2 s.
//
// Two things of Go are per process and not per namespace: the net package's
// table of zone names, and /proc/net, which shows the namespace of the main
// thread. Inside [Namespace.Do], use numeric zones and /proc/thread-self/net.
package linktest
