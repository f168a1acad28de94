package listener

import "net/netip"

// Limits on connections, chosen for a Pi with 512 MB: a session process that
// nobody has logged in to yet costs about 10 MB.
const (
	maxUnauthenticated = 24
	maxSessions        = 96
)

// victim decides who makes room when a newcomer arrives and every place before
// authentication is taken. It returns the index of the connection that is ended,
// or -1 if it is the newcomer: the newest connection of the greediest source
// goes, so that whoever comes with one connection is served however many another
// source has opened.
func victim(sources []netip.Addr, newcomer netip.Addr) int {
	count := map[netip.Addr]int{newcomer: 1}
	for _, a := range sources {
		count[a]++
	}
	most, at := count[newcomer], -1
	for i, a := range sources {
		if count[a] > most || (count[a] == most && at >= 0) {
			most, at = count[a], i
		}
	}
	return at
}
