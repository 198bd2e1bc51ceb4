package state

import "github.com/runtimed/runtimed/pkg/sandbox/spec"

// Observation is what can be seen of a recorded container after a restart of the daemon. ShimAlive must have been read
// before Facts: a shim that left in between has then left its exit.json too.
type Observation struct {
	Facts     spec.Facts
	SameBoot  bool
	ShimAlive bool
}

// Verdict says what an observed container is.
type Verdict string

const (
	VerdictEnded    Verdict = "ended"    // its end is recorded
	VerdictCreated  Verdict = "created"  // nothing of it ever ran
	VerdictRunning  Verdict = "running"  // its shim lives: watch it again
	VerdictStarting Verdict = "starting" // its shim lives and has not let the program go yet: wait for it, briefly
	VerdictBroken   Verdict = "broken"   // it was being started, and its shim is gone: kill what is there, StartError
	VerdictLost     Verdict = "lost"     // its shim is gone without a word: kill what is there, ShimLost
	VerdictRebooted Verdict = "rebooted" // the node was restarted since
)

// Observe decides what a recorded container is.
func Observe(o Observation) Verdict {
	switch {
	case o.Facts.Ended() != nil:
		return VerdictEnded
	case !o.SameBoot:
		return VerdictRebooted
	case o.ShimAlive && o.Facts.Started != nil:
		return VerdictRunning
	case o.ShimAlive:
		return VerdictStarting
	case o.Facts.Started != nil:
		return VerdictLost
	case o.Facts.Status.StartingAt != 0:
		return VerdictBroken
	default:
		return VerdictCreated
	}
}
