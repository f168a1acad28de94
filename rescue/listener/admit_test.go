package listener

import (
	"testing"
	"time"
)

func TestVictim(t *testing.T) {
	of := func(sources string) (all []claimant) {
		for i, s := range sources {
			all = append(all, claimant{string(s), time.Duration(len(sources)-i) * time.Second})
		}
		return all
	}
	for _, tt := range []struct {
		name     string
		waiting  string // one letter for each source, oldest first, a second apart
		newcomer string
		want     int
	}{
		{"nobody else", "", "a", -1},
		{"the newcomer is the greedy one", "aab", "a", -1},
		{"the greedy one's newest goes", "aab", "c", 1},
		{"greed counts, not age", "baaac", "b", 3},
		{"all alike, and none has had its time", "ab", "c", -1},
		{"all alike: the oldest has had its time", "abd", "c", 0},
		{"one more of the newcomer's own is no reason", "abcd", "a", -1},
		{"a newcomer with one of its own against two", "abbb", "a", 3},
	} {
		if got := victim(of(tt.waiting), tt.newcomer); got != tt.want {
			t.Errorf("%s: victim = %d, want %d", tt.name, got, tt.want)
		}
	}
}
