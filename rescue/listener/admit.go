package listener

import "time"

// Limits on connections, chosen for a Pi with 512 MB: a session process that
// nobody has logged in to yet costs about 10 MB.
const (
	maxUnauthenticated = 24
	maxSessions        = 96
	// minLifetime is what a connection gets before it has to make room for one of
	// a source that has no more than its own: longer than a key exchange takes.
	minLifetime = 3 * time.Second
)

// claimant is a connection that nobody has logged in to yet.
type claimant struct {
	source string
	age    time.Duration
}

// victim decides who makes room when a newcomer arrives and every place before
// authentication is taken. It returns the index of the connection that is ended,
// or -1 if it is the newcomer. The waiting are sorted, oldest first. The newest
// connection of the greediest source goes, so that whoever comes with one
// connection is served however many another source has opened. Where all have
// opened as many, the oldest goes, if it has had its time.
func victim(waiting []claimant, newcomer string) int {
	count := map[string]int{newcomer: 1}
	for _, w := range waiting {
		count[w.source]++
	}
	own := count[newcomer]
	most, at := own, -1
	for i, w := range waiting {
		if n := count[w.source]; n > most || n == most && at >= 0 {
			most, at = n, i
		}
	}
	if at < 0 && own == 1 && len(waiting) > 0 && waiting[0].age >= minLifetime {
		return 0
	}
	return at
}
