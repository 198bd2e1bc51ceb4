package plugin

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Stray is a process that a plugin's run has left, or is.
type Stray struct {
	PID     int
	Sandbox string // CNI_CONTAINERID
	Command string // CNI_COMMAND
	// Detached: it leads a session of its own, or is in one that such a process leads, as a daemon that a plugin started.
	Detached bool
}

// Strays lists the processes that carry the daemon's name in their environment.
func Strays(daemon string) []Stray {
	var out []Stray
	found := environments(daemonVariable + "=" + daemon)
	for pid, env := range found {
		session, err := unix.Getsid(pid)
		if err != nil {
			continue // it ended
		}
		_, detached := found[session]
		out = append(out, Stray{pid, value(env, "CNI_CONTAINERID"), value(env, "CNI_COMMAND"), detached})
	}
	return out
}

// EndStrays kills the daemon's strays that stale selects, and waits until they are gone or it has taken two seconds. It
// returns how many there were.
func EndStrays(daemon string, stale func(Stray) bool) int {
	killed, quiet := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(pause) {
		left := 0
		for _, s := range Strays(daemon) {
			if stale(s) && unix.Kill(s.PID, unix.SIGKILL) == nil {
				left++
			}
		}
		if left > 0 {
			killed, quiet = max(killed, left), 0
		} else if quiet++; quiet == looks {
			break
		}
	}
	return killed
}

// endRun kills what carries the run's name.
func endRun(daemon, run string) {
	quiet := 0
	for end := time.Now().Add(2 * time.Second); quiet < looks && time.Now().Before(end); time.Sleep(pause) {
		quiet++
		for pid := range environments(daemonVariable+"="+daemon, runVariable+"="+run) {
			unix.Kill(pid, unix.SIGKILL)
			quiet = 0
		}
	}
}

// A process has no environment for a moment of its execve, and one that is killed may have forked just before: it takes
// several looks that find nothing to believe that nothing is there.
const (
	looks = 3
	pause = 3 * time.Millisecond
)

// environments are those of the processes that have all the variables. A zombie has none.
func environments(want ...string) map[int][]string {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	out := map[int][]string{}
next:
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		for _, kv := range want {
			if !bytes.Contains(append([]byte{0}, b...), []byte("\x00"+kv+"\x00")) {
				continue next
			}
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		var env []string
		for kv := range bytes.SplitSeq(b, []byte{0}) {
			env = append(env, string(kv))
		}
		out[pid] = env
	}
	return out
}
