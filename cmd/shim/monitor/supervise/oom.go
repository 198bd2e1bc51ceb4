package supervise

// oomWatch tells whether the OOM killer was in the container's group while it ran.
//
// A group that is systemd's scope is removed the moment its last process has ended, which may be before this process is
// told of that end. Then the group above, the pod's, which counts its children's kills and stays, has the answer. It
// speaks for all of the pod's containers, so it counts only for a container that was ended by SIGKILL.
type oomWatch struct {
	file, above             string
	before, aboveBefore     uint64
	seen, read, aboveCounts bool
}

func watchOOM(file string) oomWatch {
	w := oomWatch{file: file, above: aboveFile(file)}
	w.before, _ = oomKills(file) // none: the group is new
	w.aboveBefore, w.aboveCounts = oomKills(w.above)
	return w
}

// look is called as soon as init has ended, and again when its output is drained.
func (w *oomWatch) look() {
	if n, ok := oomKills(w.file); ok {
		w.read = true
		w.seen = w.seen || n > w.before
	}
}

// killed is the answer for an init that ended with that code.
func (w *oomWatch) killed(code int) bool {
	if w.read || code != 128+9 || !w.aboveCounts {
		return w.seen
	}
	n, ok := oomKills(w.above)
	return ok && n > w.aboveBefore
}

// aboveFile is the file of the same name in the group above; "" where that cannot count for its children: on v1.
func aboveFile(file string) string {
	const name = "/memory.events"
	if len(file) < len(name) || file[len(file)-len(name):] != name {
		return ""
	}
	group := file[:len(file)-len(name)]
	for i := len(group) - 1; i > 0; i-- {
		if group[i] == '/' {
			return group[:i] + name
		}
	}
	return ""
}
