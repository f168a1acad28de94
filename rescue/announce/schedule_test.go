package announce

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestInterval(t *testing.T) {
	for _, tt := range []struct {
		n      int
		jitter float64
		want   time.Duration
	}{
		{1, 0, time.Second},
		{1, 0.99, time.Second},
		{2, 0, time.Second},
		{3, 0, 45 * time.Second},
		{3, 0.5, 60 * time.Second},
		{3, 1, 75 * time.Second},
		{1000, 0.5, 60 * time.Second},
	} {
		if got := interval(tt.n, tt.jitter); got != tt.want {
			t.Errorf("interval(%d, %v) = %v, want %v", tt.n, tt.jitter, got, tt.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second,
		100: 5 * time.Second, 1 << 40: 5 * time.Second,
	} {
		if got := backoff(n); got != want {
			t.Errorf("backoff(%d) = %v, want %v", n, got, want)
		}
	}
}

// Two addresses of one link and one of another.
var (
	eth0  = target{index: 2, addr: netip.MustParseAddr("fe80::1"), mac: [6]byte{2, 5: 1}}
	label = target{index: 2, addr: netip.MustParseAddr("fe80::2"), mac: [6]byte{2, 5: 1}}
	eth1  = target{index: 3, addr: netip.MustParseAddr("fe80::1"), mac: [6]byte{2, 5: 2}}
)

// with returns t with something changed.
func (t target) with(change func(*target)) target {
	change(&t)
	return t
}

func TestSchedule(t *testing.T) {
	type step struct {
		at      time.Duration // since the beginning
		targets []target      // what Update says then
		dead    bool
	}
	// sent is what went out, and when; jitter is 0.5, so the period is 60 s.
	type sent struct {
		at time.Duration
		target
	}
	const s, ms = time.Second, time.Millisecond
	otherMAC := eth0.with(func(t *target) { t.mac[5] = 9 })
	forwards := eth0.with(func(t *target) { t.router = true })
	recreated := eth0.with(func(t *target) { t.index = 7 })

	for _, tt := range []struct {
		name  string
		steps []step
		end   time.Duration
		want  []sent
	}{
		{"nothing to announce", []step{{0, nil, true}}, 200 * s, nil},
		{"three, then one a minute", []step{{0, []target{eth0}, false}}, 150 * s,
			[]sent{{0, eth0}, {1 * s, eth0}, {2 * s, eth0}, {62 * s, eth0}, {122 * s, eth0}}},
		{"addresses and links of one event go together", []step{{0, []target{label, eth1, eth0}, false}}, 3 * s,
			[]sent{{0, eth0}, {0, label}, {0, eth1}, {s, eth0}, {s, label}, {s, eth1}, {2 * s, eth0}, {2 * s, label}, {2 * s, eth1}}},
		{"the same again is no event", []step{{0, []target{eth0}, false}, {10 * s, []target{eth0}, false}}, 50 * s,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}}},
		{"an address became usable", []step{{0, []target{eth0}, false}, {1500 * ms, []target{eth0, label}, false}}, 4 * s,
			[]sent{{0, eth0}, {s, eth0}, {1500 * ms, label}, {2 * s, eth0}, {2500 * ms, label}, {3500 * ms, label}}},
		{"the MAC address changed", []step{{0, []target{eth0}, false}, {10 * s, []target{otherMAC}, false}}, 20 * s,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}, {10 * s, otherMAC}, {11 * s, otherMAC}, {12 * s, otherMAC}}},
		{"forwarding changed", []step{{0, []target{eth0}, false}, {10 * s, []target{forwards}, false}}, 11 * s,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}, {10 * s, forwards}}},
		{"the link was re-created", []step{{0, []target{eth0}, false}, {1500 * ms, []target{recreated}, false}}, 4 * s,
			[]sent{{0, eth0}, {s, eth0}, {1500 * ms, recreated}, {2500 * ms, recreated}, {3500 * ms, recreated}}},
		{"IPv4 died", []step{{0, []target{eth0, eth1}, false}, {10 * s, []target{eth0, eth1}, true}}, 11 * s,
			[]sent{{0, eth0}, {0, eth1}, {s, eth0}, {s, eth1}, {2 * s, eth0}, {2 * s, eth1}, {10 * s, eth0}, {10 * s, eth1}}},
		{"no carrier, then carrier", []step{{0, []target{eth0}, false}, {10 * s, nil, false}, {20 * s, []target{eth0}, false}}, 22500 * ms,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}, {20 * s, eth0}, {21 * s, eth0}, {22 * s, eth0}}},
		{"a flapping carrier does not make it faster than one a second",
			[]step{{0, []target{eth0}, false}, {100 * ms, nil, false}, {200 * ms, []target{eth0}, false},
				{300 * ms, nil, false}, {400 * ms, []target{eth0}, false}, {500 * ms, nil, false}, {600 * ms, []target{eth0}, false}}, 4 * s,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}, {3 * s, eth0}}},
		{"nor does a flapping default route",
			[]step{{0, []target{eth0}, false}, {200 * ms, []target{eth0}, true}, {400 * ms, []target{eth0}, false}}, 4 * s,
			[]sent{{0, eth0}, {s, eth0}, {2 * s, eth0}, {3 * s, eth0}}},
		{"gone for good", []step{{0, []target{eth0}, false}, {500 * ms, nil, false}}, 100 * s, []sent{{0, eth0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Unix(0, 0) // 1970 is a fine year
			var plan schedule
			var got []sent
			// Every 100 ms the announcer wakes up, whether it has to or not.
			for at := time.Duration(0); at < tt.end; at += 100 * ms {
				now := begin.Add(at)
				for _, step := range tt.steps {
					if step.at == at {
						plan.update(now, step.targets, step.dead)
					}
				}
				for _, e := range plan.due(now) {
					got = append(got, sent{at, e.target})
					e.done(now, true, 0.5)
				}
				if next, ok := plan.next(); ok && !next.After(now) {
					t.Fatalf("at %v: due again at once", at)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%v\nwant\n%v", got, tt.want)
			}
		})
	}
}

func TestScheduleForgets(t *testing.T) {
	var plan schedule
	now := time.Unix(0, 0)
	for i := range 1000 {
		plan.update(now, []target{{index: i}}, false)
		for _, e := range plan.due(now) {
			e.done(now, true, 0)
		}
		now = now.Add(time.Second)
	}
	if n := len(plan.entries); n > 2 {
		t.Errorf("%d entries after a link was re-created 1000 times", n)
	}
}
