package watchdog

import "time"

// Measure is a rung of the ladder: what is done when repairs do not help. Each
// comes only after the one before it.
type Measure string

// The rungs.
const (
	Bounce  Measure = "bounce the link"
	Restart Measure = "restart the worker"
	Reboot  Measure = "reboot"
)

// The rations. A fault has to last for so long, and a measure is not taken again for
// so long.
const (
	bounceAfter  = 30 * time.Second
	bounceEvery  = 5 * time.Minute
	restartAfter = 2 * time.Minute
	restartEvery = 15 * time.Minute
	rebootAfter  = 30 * time.Minute
	rebootUptime = time.Hour // and so not more often than that
)

// Trouble is what the ladder is asked about.
type Trouble struct {
	// Lasts is how long a fault has lasted that repairs of ours should have ended,
	// 0 if there is none. What a neighbour claims, and a link without a carrier,
	// are no faults of ours.
	Lasts time.Duration
	// ProbeFailed says that the listener did not answer on an own address, twice.
	ProbeFailed bool
	// Since is how long ago each measure was taken; those that were not are
	// absent.
	Since map[Measure]time.Duration
	// Uptime is the kernel's.
	Uptime time.Duration
	// LoggedIn says that somebody is.
	LoggedIn bool
	// MayReboot says that this system is an instance, and no host of others.
	MayReboot bool
}

// Next returns the measure to take now, "" if there is none. It is rationed: a
// larger one is taken only after the smaller has not helped.
func (t Trouble) Next() Measure {
	if t.Lasts == 0 && !t.ProbeFailed {
		return ""
	}
	rested := func(m Measure, every time.Duration) bool {
		ago, taken := t.Since[m]
		return !taken || ago >= every
	}
	restarted, wasRestarted := t.Since[Restart]
	bounced, wasBounced := t.Since[Bounce]
	switch {
	case t.Lasts >= rebootAfter && wasRestarted && restarted >= rebootAfter &&
		t.Uptime >= rebootUptime && t.MayReboot && !t.LoggedIn:
		return Reboot
	case (t.ProbeFailed || t.Lasts >= restartAfter && wasBounced && bounced >= restartAfter-bounceAfter) &&
		rested(Restart, restartEvery):
		return Restart
	case t.Lasts >= bounceAfter && rested(Bounce, bounceEvery):
		return Bounce
	}
	return ""
}
