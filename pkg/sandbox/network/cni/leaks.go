package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
)

// Leaks names what is in the cache directory, or runs in its name, and belongs to no recorded sandbox: attachments,
// results and plugins. What a stopped sandbox still owes its network is its own as long as it has a record. It asks no
// daemon and no plugin.
func Leaks(cacheDir string, recorded func(sandboxID string) bool) ([]string, error) {
	j := journal{cacheDir}
	var out []string
	var failed []error
	known := map[string]bool{}
	for _, state := range []string{attachedDir, leavingDir} {
		ids, err := j.list(state)
		if err != nil {
			failed = append(failed, err)
		}
		for _, id := range ids {
			known[id] = true
			if !recorded(id) {
				out = append(out, fmt.Sprintf("attachment %s is of no sandbox: its addresses are taken", j.path(state, id)))
			}
		}
	}
	results, err := os.ReadDir(filepath.Join(cacheDir, resultsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, err)
	}
	for _, r := range results {
		if !slices.ContainsFunc(keys(known), func(id string) bool { return strings.Contains(r.Name(), "-"+id+"-") }) {
			out = append(out, fmt.Sprintf("result %s is of no attachment", filepath.Join(cacheDir, resultsDir, r.Name())))
		}
	}
	for _, s := range plugin.Strays(cacheDir) {
		if s.Sandbox != "" && !s.Detached && !recorded(s.Sandbox) {
			out = append(out, fmt.Sprintf("process %d is a CNI plugin's, for sandbox %s, which is not recorded", s.PID, s.Sandbox))
		}
	}
	return out, errors.Join(failed...)
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// Finding is something that keeps pods from being connected, for a person.
type Finding struct {
	What, Why, Fix string
	// Doubtful: plugins of old have a CHECK that is wrong about good pods.
	Doubtful bool
}

// Check looks at configuration and plugins as a daemon would, asks the plugins for their state and about every attached
// pod, and changes nothing. It runs in the daemon's namespaces, and needs no daemon.
func Check(ctx context.Context, cfg Config) []Finding {
	n, err := New(cfg, Options{})
	if err != nil {
		return []Finding{{What: "the network's configuration is invalid", Why: err.Error(), Fix: "correct it"}}
	}
	defer n.Close()
	network, err := n.load()
	if err != nil {
		return []Finding{{What: "no pod can be connected", Why: err.Error(), Fix: "put a network configuration there, or correct it"}}
	}
	if err := n.present(network); err != nil {
		return []Finding{{What: "no pod can be connected", Why: err.Error(), Fix: "install the plugins, or name their directory in network.cni.bin_dirs"}}
	}
	var out []Finding
	if network.Speaks("1.1.0") {
		if err := n.status(ctx, network); err != nil {
			out = append(out, Finding{What: "the network's plugins are not ready", Why: err.Error(), Fix: "look at what the network's own daemon says"})
		}
	}
	return append(out, checkPods(ctx, n.cni, n.journal)...)
}

func checkPods(ctx context.Context, c *libcni.CNIConfig, j journal) []Finding {
	ids, err := j.list(attachedDir)
	if err != nil {
		return []Finding{{What: "attachments could not be read", Why: err.Error(), Fix: "run as root"}}
	}
	var out []Finding
	for _, id := range ids {
		one, cancel := context.WithTimeout(ctx, checkTime)
		err := checkAttachment(one, c, j, id)
		cancel()
		if err != nil {
			out = append(out, Finding{What: "a pod is not connected as its plugins left it", Why: fmt.Sprintf("sandbox %s: %v", id, err),
				Fix: "where the pod is not reached, delete it, so that another is made", Doubtful: true})
		}
	}
	leaving, err := j.list(leavingDir)
	if err == nil && len(leaving) > 0 {
		out = append(out, Finding{What: fmt.Sprintf("the network has not let %d stopped pods go", len(leaving)),
			Why: "their addresses stay taken: " + strings.Join(leaving, ", "), Fix: "the daemon's log says what their plugins answer; it asks them again and again"})
	}
	return out
}
