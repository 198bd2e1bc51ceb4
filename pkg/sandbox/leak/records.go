package leak

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
)

// records are the owners of everything.
type records struct {
	sandboxes  map[string]sandbox
	containers map[string]container
}

type sandbox struct {
	rec state.SandboxRecord
	// up: it may hold objects of the kernel. A record that cannot be read may: its daemon, once started, finds them by id.
	up         bool
	unreadable bool
}

type container struct {
	sandbox string
	// up: it may have a shim and processes.
	up bool
}

// idForm is an id of this daemon's making: 32 random bytes, so nobody else's by chance.
var idForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func readRecords(l spec.Layout) (records, error) {
	r := records{sandboxes: map[string]sandbox{}, containers: map[string]container{}}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return r, err
	}
	good, bad, err := (state.Store{Layout: l}).Load()
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // no daemon was ever here
	}
	if err != nil {
		return r, err
	}
	for _, s := range good {
		r.add(s, strings.TrimSpace(string(boot)))
	}
	for _, b := range bad {
		if b.ContainerID == "" {
			r.sandboxes[b.SandboxID] = sandbox{up: true, unreadable: true}
			r.addUnread(l, b.SandboxID)
		} else {
			r.containers[b.ContainerID] = container{sandbox: b.SandboxID, up: true}
		}
	}
	return r, nil
}

// addUnread takes the containers of a sandbox whose record cannot be read by their directories' names.
func (r records) addUnread(l spec.Layout, sid string) {
	entries, err := os.ReadDir(filepath.Join(l.Sandbox(sid), "containers"))
	if err != nil {
		return // then there are none that could be told apart
	}
	for _, e := range entries {
		r.containers[e.Name()] = container{sandbox: sid, up: true}
	}
}

func (r records) add(s state.SandboxRecord, boot string) {
	this := s.Spec.BootID == boot
	r.sandboxes[s.Spec.ID] = sandbox{rec: s, up: this && (s.Status == nil || s.Status.StoppedAt == 0)}
	for _, c := range s.Containers {
		started := c.Facts.Status.StartingAt != 0 || c.Facts.Started != nil
		r.containers[c.Spec.ID] = container{sandbox: s.Spec.ID, up: c.Spec.BootID == boot && started && c.Facts.Ended() == nil}
	}
}

// live are the ids of the sandboxes that may hold objects of the kernel.
func (r records) live() map[string]bool {
	out := map[string]bool{}
	for id, s := range r.sandboxes {
		if s.up {
			out[id] = true
		}
	}
	return out
}

func short(id string) string { return id[:min(len(id), 13)] }
