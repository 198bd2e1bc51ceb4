package daemontest

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// Slowness in the environment says how many times slower than an ordinary one this machine is: a whole number from 1 to
// 20. A bound that a test sets to a time is that much longer. Without it the bounds are as they are written.
const Slowness = "RUNTIMED_TEST_SLOWNESS"

var slowness = slownessOf(os.Getenv(Slowness))

func slownessOf(text string) time.Duration {
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 20 {
		panic(fmt.Sprintf("%s is %q, not a whole number from 1 to 20", Slowness, text))
	}
	return time.Duration(n)
}

// Slow is what d, a bound for an ordinary machine, is on this one.
func Slow(d time.Duration) time.Duration { return slowness * d }
