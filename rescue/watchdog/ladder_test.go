package watchdog

import (
	"testing"
	"time"
)

func TestLadder(t *testing.T) {
	type since = map[Measure]time.Duration
	const day = 24 * time.Hour
	stuck := Trouble{Lasts: day, Uptime: day, MayReboot: true, Since: since{Bounce: 3 * time.Minute, Restart: time.Hour}}
	change := func(f func(*Trouble)) Trouble { t := stuck; f(&t); return t }
	for _, tt := range []struct {
		name string
		in   Trouble
		want Measure
	}{
		{"all is well", Trouble{Uptime: day, MayReboot: true}, ""},
		{"a fault of a moment", Trouble{Lasts: 10 * time.Second}, ""},
		{"half a minute", Trouble{Lasts: 30 * time.Second}, Bounce},
		{"just bounced", Trouble{Lasts: 40 * time.Second, Since: since{Bounce: 10 * time.Second}}, ""},
		{"the bounce did not help", Trouble{Lasts: 2 * time.Minute, Since: since{Bounce: 90 * time.Second}}, Restart},
		{"never without a bounce", Trouble{Lasts: 2 * time.Minute}, Bounce},
		{"no two restarts in a row", Trouble{Lasts: 3 * time.Minute, Since: since{Bounce: 2 * time.Minute, Restart: time.Minute}}, ""},
		{"bounced again meanwhile", Trouble{Lasts: 6 * time.Minute, Since: since{Bounce: 6 * time.Minute, Restart: time.Minute}}, Bounce},
		{"nothing else has helped", stuck, Reboot},
		{"not in the first hour", change(func(t *Trouble) {
			t.Uptime = 59 * time.Minute
			t.Since = since{Bounce: 2 * time.Minute, Restart: 40 * time.Minute}
		}), Restart},
		{"not while somebody is logged in", change(func(t *Trouble) {
			t.LoggedIn = true
			t.Since = since{Bounce: 2 * time.Minute, Restart: 31 * time.Minute}
		}), Restart},
		{"not somebody else's host", change(func(t *Trouble) { t.MayReboot = false }), Restart},
		{"not without a restart before", change(func(t *Trouble) { t.Since = since{Bounce: 3 * time.Minute} }), Restart},
		{"the listener is silent", Trouble{ProbeFailed: true}, Restart},
		{"the listener is silent again", Trouble{ProbeFailed: true, Since: since{Restart: time.Minute}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.in.Next(); got != tt.want {
				t.Errorf("Next() = %q, want %q", got, tt.want)
			}
		})
	}
}
