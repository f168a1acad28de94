package watchdog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

	// earlier is what is left of an incident that another process noted, before
	// this one: nothing changes in it any more.
	earlier *record
}

// Journal is a bounded ring of incidents in memory. Its times are monotonic: a
// Pi without network believes it is 1970, and then jumps.
type Journal struct {
	mu      sync.Mutex
	ring    []*incident
	live    map[key]*incident
	changed chan struct{}
	taken   map[Measure]time.Duration // uptime of the kernel when each was taken last
}

// key identifies a fault that lasts: index is that of the link, 0 if it is of
// none, and link its name, where only that is known.
type key struct {
	index int
	fault string
	link  string
}

// NewJournal returns an empty journal.
func NewJournal() *Journal {
	return &Journal{live: map[key]*incident{}, changed: make(chan struct{}, 1), taken: map[Measure]time.Duration{}}
}

// Changed has something whenever the journal is another than before.
func (j *Journal) Changed() <-chan struct{} { return j.changed }

func (j *Journal) change() {
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// Begin notes a fault that was seen now and lasts; link is "" if it is of none. One
// that lasts already is left as it is.
func (j *Journal) Begin(fault, link string) { j.begin(key{fault: fault, link: link}, link, time.Now()) }

// Repaired notes an attempt to repair a fault that lasts, and what came of it.
func (j *Journal) Repaired(fault, link, what string) {
	j.repaired(key{fault: fault, link: link}, what)
}

// End notes that a fault is gone.
func (j *Journal) End(fault, link string) { j.end(key{fault: fault, link: link}, time.Now()) }

// sameIncident is how soon after its end a fault that comes again, repaired at
// once, is the same incident: a storm of them leaves room for others.
const sameIncident = time.Second

// Note notes a fault that was repaired as soon as it was seen.
func (j *Journal) Note(fault, link, repair string) {
	j.mu.Lock()
	if n := len(j.ring); n > 0 {
		if in := j.ring[n-1]; in.fault == fault && in.link == link && !in.recovered.IsZero() && time.Since(in.recovered) < sameIncident {
			in.repairs++
			in.recovered = time.Now()
			j.mu.Unlock()
			return
		}
	}
	j.mu.Unlock()
	j.Begin(fault, link)
	j.Repaired(fault, link, repair)
	j.End(fault, link)
}

// Take notes that a measure is taken now, and why.
func (j *Journal) Take(m Measure, link, why string) {
	j.mu.Lock()
	j.taken[m] = Uptime()
	j.mu.Unlock()
	j.Note(why, link, string(m))
}

// Taken returns how long ago each measure was taken, in this boot of the kernel.
func (j *Journal) Taken() map[Measure]time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := Uptime()
	ago := make(map[Measure]time.Duration, len(j.taken))
	for m, at := range j.taken {
		ago[m] = now - at
	}
	return ago
}

// begin says whether the incident is new.
func (j *Journal) begin(k key, link string, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live[k] != nil {
		return false
	}
	in := &incident{fault: k.fault, link: link, seen: now}
	j.live[k] = in
	j.add(in)
	return true
}

func (j *Journal) add(in *incident) {
	j.ring = append(j.ring, in)
	if len(j.ring) > maxIncidents {
		j.ring = j.ring[1:]
	}
	j.change()
}

// repaired notes one attempt at a repair and what came of it.
func (j *Journal) repaired(k key, what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if in := j.live[k]; in != nil {
		in.repairs++
		if in.last != what {
			in.last = what
			j.change()
		}
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
	j.change()
	return now.Sub(in.seen), true
}

// Incidents returns what the journal holds, oldest first.
func (j *Journal) Incidents() []status.Incident {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	all := make([]status.Incident, 0, len(j.ring))
	for _, in := range j.ring {
		if r := in.earlier; r != nil {
			all = append(all, status.Incident{Fault: r.Fault, Link: r.Link, Repairs: r.Repairs, Last: r.Last,
				Recovered: r.Recovered, After: r.After, EarlierBoot: true, When: r.When})
			continue
		}
		s := status.Incident{Fault: in.fault, Link: in.link, Since: now.Sub(in.seen), Repairs: in.repairs, Last: in.last}
		if !in.recovered.IsZero() {
			s.Recovered, s.After = true, in.recovered.Sub(in.seen)
		}
		all = append(all, s)
	}
	return all
}

// record is an incident as it is kept outside of this process.
type record struct {
	Boot      string        `json:"boot"`          // the kernel's boot ID
	Uptime    time.Duration `json:"uptime_ns"`     // of the kernel, when it was seen
	When      time.Time     `json:"when,omitzero"` // by the clock, if that was set
	Fault     string        `json:"fault"`
	Link      string        `json:"link,omitempty"`
	Repairs   int           `json:"repairs"`
	Last      string        `json:"last,omitempty"`
	Recovered bool          `json:"recovered"`
	After     time.Duration `json:"after_ns"`
}

// saved is the whole journal, as it is kept.
type saved struct {
	Boot      string   `json:"boot"` // in which it was written
	Incidents []record `json:"incidents"`

	Taken map[Measure]time.Duration `json:"measures_uptime_ns,omitempty"`
}

// firstDay is before anything that a clock can rightly say: one that says less has
// not been set.
var firstDay = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Save returns the journal as JSON. boot is the kernel's boot ID.
func (j *Journal) Save(boot string) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	now, up := time.Now(), Uptime()
	s := saved{Boot: boot, Incidents: []record{}, Taken: maps.Clone(j.taken)}
	for _, in := range j.ring {
		if in.earlier != nil {
			s.Incidents = append(s.Incidents, *in.earlier)
			continue
		}
		ago := now.Sub(in.seen)
		r := record{Boot: boot, Uptime: up - ago, Fault: in.fault, Link: in.link, Repairs: in.repairs, Last: in.last}
		if when := now.Add(-ago); when.After(firstDay) {
			r.When = when.Round(time.Second).UTC()
		}
		if !in.recovered.IsZero() {
			r.Recovered, r.After = true, in.recovered.Sub(in.seen)
		}
		s.Incidents = append(s.Incidents, r)
	}
	b, err := json.Marshal(s)
	if err != nil { // a time that JSON cannot hold
		b, _ = json.Marshal(saved{Boot: boot})
	}
	return b
}

// Load puts what was saved before what the journal holds, and says whether it was
// saved in this boot of the kernel. What lasted then is over as far as this
// process can know.
func (j *Journal) Load(b []byte, boot string) (sameBoot bool, err error) {
	var s saved
	// Something may be left behind it: its writer was killed.
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return false, fmt.Errorf("reading the incidents of before: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	now, up := time.Now(), Uptime()
	var old []*incident
	for _, r := range s.Incidents {
		in := &incident{earlier: &r}
		if r.Boot == boot && r.Uptime <= up {
			seen := now.Add(r.Uptime - up)
			in = &incident{fault: r.Fault, link: r.Link, seen: seen, repairs: r.Repairs, last: r.Last, recovered: seen.Add(r.After)}
			if !r.Recovered {
				in.recovered = now
			}
		}
		old = append(old, in)
	}
	j.ring = append(old, j.ring...)
	j.ring = j.ring[max(0, len(j.ring)-maxIncidents):]
	if s.Boot != boot {
		return false, nil
	}
	for m, at := range s.Taken {
		if at <= up {
			j.taken[m] = at
		}
	}
	return true, nil
}

// Uptime is how long the kernel has been running, sleep included.
func Uptime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // Linux 2.6.39
	return time.Duration(t.Nano())
}
