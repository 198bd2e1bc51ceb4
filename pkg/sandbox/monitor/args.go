package monitor

import (
	"errors"
	"strconv"
)

// Binary is the file name of the monitor's program.
const Binary = "runtimed-monitor"

// ArgsVersion is the version of the command line. Creator and monitor are installed together; a monitor of another
// version refuses rather than guesses.
const ArgsVersion = 1

// Args is all that the monitor knows of its container. Paths are absolute.
type Args struct {
	ContainerID string
	// Dir is the container's record directory: started.json and exit.json are written there.
	Dir string
	// Socket is where the control socket is bound.
	Socket string
	// LogPath is the log file; "" drains and discards the output.
	LogPath string
	// Fifo is libcontainer's exec.fifo: opening it for reading lets the program go.
	Fifo string
	// InitPID and InitTicks name the container's init: pid, and start ticks since boot (proc(5), stat field 22).
	InitPID   int
	InitTicks uint64
	BootID    string
	// OOMFile has a line "oom_kill N": memory.oom_control (v1) or memory.events (v2) of the container's group; "" for
	// none.
	OOMFile string
	// KillFiles are cgroup.kill files of the container's group; ProcsFiles are cgroup.procs files whose processes are
	// killed one by one, where there is no cgroup.kill.
	KillFiles  []string
	ProcsFiles []string
	// TTY: Console is the pty's master end and takes the place of Stdout, Stderr and Stdin.
	TTY       bool
	StdinOnce bool
	// Descriptors that are inherited across execve; -1 where absent. Stdout and Stderr are read ends of pipes, Stdin
	// is a write end, Status the write end of a pipe to the launcher, Lock the record's shim.lock, which carries a
	// POSIX lock and is kept open, never read.
	Stdout  int
	Stderr  int
	Stdin   int
	Console int
	Status  int
	Lock    int
}

// Argv returns the argument list for execve, without argv[0]: one "key=value" an argument, lists by repetition, and
// only what is not at its default.
func (a Args) Argv() []string {
	argv := []string{"version=" + strconv.Itoa(ArgsVersion)}
	add := func(key, value string) {
		if value != "" {
			argv = append(argv, key+"="+value)
		}
	}
	add("id", a.ContainerID)
	add("dir", a.Dir)
	add("socket", a.Socket)
	add("log", a.LogPath)
	add("fifo", a.Fifo)
	add("pid", strconv.Itoa(a.InitPID))
	add("ticks", strconv.FormatUint(a.InitTicks, 10))
	add("boot", a.BootID)
	add("oom", a.OOMFile)
	for _, f := range a.KillFiles {
		add("kill", f)
	}
	for _, f := range a.ProcsFiles {
		add("procs", f)
	}
	if a.TTY {
		add("tty", "1")
	}
	if a.StdinOnce {
		add("stdin-once", "1")
	}
	for _, d := range a.descriptors() {
		if *d.fd >= 0 {
			add(d.key, strconv.Itoa(*d.fd))
		}
	}
	return argv
}

// ParseArgs is the inverse of Argv. It refuses what Argv does not write: an unknown or repeated key, a missing or
// malformed value, a relative path, a descriptor below 3 or named twice.
func ParseArgs(argv []string) (Args, error) {
	a := Args{Stdout: -1, Stderr: -1, Stdin: -1, Console: -1, Status: -1, Lock: -1}
	if len(argv) == 0 || argv[0] != "version="+strconv.Itoa(ArgsVersion) {
		return Args{}, errors.New("this program is started by runtimed-shim of the same release, not by hand")
	}
	seen := map[string]bool{}
	for _, arg := range argv[1:] {
		key, value, ok := cut(arg)
		if !ok || value == "" {
			return Args{}, errors.New("argument " + strconv.Quote(arg) + " is not key=value")
		}
		if seen[key] && key != "kill" && key != "procs" {
			return Args{}, errors.New("argument " + strconv.Quote(key) + " is given twice")
		}
		seen[key] = true
		if err := a.set(key, value); err != nil {
			return Args{}, errors.New("argument " + strconv.Quote(arg) + ": " + err.Error())
		}
	}
	return a, a.check(seen)
}

func (a *Args) set(key, value string) error {
	switch key {
	case "id":
		a.ContainerID = value
	case "dir":
		return setPath(&a.Dir, value)
	case "socket":
		return setPath(&a.Socket, value)
	case "log":
		return setPath(&a.LogPath, value)
	case "fifo":
		return setPath(&a.Fifo, value)
	case "pid":
		return setInt(&a.InitPID, value, 1)
	case "ticks":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != value {
			return errNumber
		}
		a.InitTicks = n
	case "boot":
		a.BootID = value
	case "oom":
		return setPath(&a.OOMFile, value)
	case "kill":
		return addPath(&a.KillFiles, value)
	case "procs":
		return addPath(&a.ProcsFiles, value)
	case "tty":
		return setTrue(&a.TTY, value)
	case "stdin-once":
		return setTrue(&a.StdinOnce, value)
	default:
		for _, d := range a.descriptors() {
			if d.key == key {
				return setInt(d.fd, value, 3)
			}
		}
		return errors.New("unknown")
	}
	return nil
}

func (a *Args) check(seen map[string]bool) error {
	for _, key := range [...]string{"id", "dir", "socket", "fifo", "pid", "ticks", "boot"} {
		if !seen[key] {
			return errors.New("argument " + strconv.Quote(key) + " is missing")
		}
	}
	used := map[int]bool{}
	for _, d := range a.descriptors() {
		if *d.fd < 0 {
			continue
		}
		if used[*d.fd] {
			return errors.New("descriptor " + strconv.Itoa(*d.fd) + " is given twice")
		}
		used[*d.fd] = true
	}
	if a.TTY != (a.Console >= 0) {
		return errors.New("tty and console belong together")
	}
	if a.TTY && (a.Stdout >= 0 || a.Stderr >= 0 || a.Stdin >= 0) {
		return errors.New("a console takes the place of stdout, stderr and stdin")
	}
	return nil
}

type descriptor struct {
	key string
	fd  *int
}

func (a *Args) descriptors() []descriptor {
	return []descriptor{
		{"stdout", &a.Stdout}, {"stderr", &a.Stderr}, {"stdin", &a.Stdin},
		{"console", &a.Console}, {"status", &a.Status}, {"lock", &a.Lock},
	}
}

var (
	errNumber = errors.New("not a number in range")
	errPath   = errors.New("not an absolute path")
)

func cut(arg string) (key, value string, ok bool) {
	for i := range len(arg) {
		if arg[i] == '=' {
			return arg[:i], arg[i+1:], true
		}
	}
	return "", "", false
}

func setPath(p *string, value string) error {
	if value[0] != '/' {
		return errPath
	}
	*p = value
	return nil
}

func addPath(p *[]string, value string) error {
	if value[0] != '/' {
		return errPath
	}
	*p = append(*p, value)
	return nil
}

func setInt(p *int, value string, least int) error {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || int(n) < least || strconv.FormatInt(n, 10) != value {
		return errNumber
	}
	*p = int(n)
	return nil
}

func setTrue(p *bool, value string) error {
	if value != "1" {
		return errors.New("not 1")
	}
	*p = true
	return nil
}
