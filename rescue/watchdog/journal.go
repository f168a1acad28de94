package watchdog

import (
	"sync"
	"time"

	"rescue6/rescue/status"
)

// maxIncidents bounds the journal: what is older is forgotten.
const maxIncidents = 64

// incident is one fault, from when it was seen to when it was gone.
type incident struct {
	fault, link string
	seen        time.Time
	recovered   time.Time // zero while it lasts
	repairs     int
	last        string
}

// Journal is a bounded ring of incidents in memory. Its times are monotonic: a
// Pi without network believes it is 1970, and then jumps.
type Journal struct {
	mu   sync.Mutex
	ring []*incident
	live map[key]*incident
}

// key identifies a fault that lasts.
type key struct {
	index int
	fault string
}

// NewJournal returns an empty journal.
func NewJournal() *Journal { return &Journal{live: map[key]*incident{}} }

// begin notes a fault that was seen now; one that lasts already is left as it is.
// It says whether the incident is new.
func (j *Journal) begin(k key, link string, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live[k] != nil {
		return false
	}
	in := &incident{fault: k.fault, link: link, seen: now}
	j.live[k] = in
	j.ring = append(j.ring, in)
	if len(j.ring) > maxIncidents {
		j.ring = j.ring[1:]
	}
	return true
}

// repaired notes one attempt at a repair and what came of it.
func (j *Journal) repaired(k key, what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if in := j.live[k]; in != nil {
		in.repairs++
		in.last = what
	}
}

// end notes that the fault is gone and returns how long it lasted.
func (j *Journal) end(k key, now time.Time) (time.Duration, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	in := j.live[k]
	if in == nil {
		return 0, false
	}
	delete(j.live, k)
	in.recovered = now
	return now.Sub(in.seen), true
}

// Incidents returns what the journal holds, oldest first.
func (j *Journal) Incidents() []status.Incident {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	all := make([]status.Incident, 0, len(j.ring))
	for _, in := range j.ring {
		s := status.Incident{Fault: in.fault, Link: in.link, Since: now.Sub(in.seen), Repairs: in.repairs, Last: in.last}
		if !in.recovered.IsZero() {
			s.Recovered, s.After = true, in.recovered.Sub(in.seen)
		}
		all = append(all, s)
	}
	return all
}
