package scan

import "time"

// The pace of a scan. An answer needs one round trip and the neighbour's
// resolution of us: milliseconds on a wire, up to one DTIM interval (100 to 300 ms)
// on Wi-Fi, which also loses multicasts: hence the second round.
const (
	rounds     = 2
	roundEvery = 250 * time.Millisecond
	quiet      = 300 * time.Millisecond

	// Between two probes the link comes to rest: on a large one thousands of answers
	// and solicitations follow each, and what overflows a queue is lost.
	probePause = 2 * time.Millisecond  // without an answer
	probeEvery = 25 * time.Millisecond // at the latest
)

// pace decides when a scan sends and when it ends.
type pace struct {
	start   time.Time
	timeout time.Duration
	sent    int       // rounds
	news    time.Time // when somebody new answered last

	probed time.Time // when the last probe was sent
	heard  time.Time // when somebody answered last
}

// mayProbe says whether the next probe of a round may be sent now.
func (p pace) mayProbe(now time.Time) bool {
	return now.Sub(p.probed) >= probeEvery || now.Sub(p.probed) >= probePause && now.Sub(p.heard) >= probePause
}

// next returns when to send the next round or, if end is true, when to stop
// listening, should there be no further news.
func (p pace) next() (at time.Time, end bool) {
	last := p.start.Add(p.timeout)
	if p.sent < rounds {
		at = p.start.Add(time.Duration(p.sent) * roundEvery)
		return earlier(at, last), at.After(last)
	}
	at = p.start.Add((rounds - 1) * roundEvery)
	if p.news.After(at) {
		at = p.news
	}
	return earlier(at.Add(quiet), last), true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
