package cni

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// TestWhatIsOwedIsDoneAfterARestart: DELs that failed, and attachments of sandboxes that have no record. What is recorded
// is left to whoever stops it.
func TestWhatIsOwedIsDoneAfterARestart(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	owed, _ := w.add()
	lost, _ := w.add()
	recorded, _ := w.add()
	alive, result := w.add()
	must(os.Mkdir(w.dir+"/recorded", 0o755))
	w.write("recorded/"+recorded.SandboxID, "yes")
	w.write("recorded/"+alive.SandboxID, "yes")
	w.write("behave", `[ $CNI_COMMAND != DEL ] || exit 1`)
	if err := n.Remove(t.Context(), owed.SandboxID, nil); err == nil {
		t.Fatal("the DEL succeeded")
	}
	w.close()
	w.remove("behave")
	n = w.open(map[string]spec.NetworkResult{alive.SandboxID: result})
	w.eventually("two are let go", func() bool { return fmt.Sprint(w.taken()) == "[10.9.0.4 10.9.0.5]" })
	if calls := w.read("calls"); !strings.Contains(calls, "DEL "+lost.SandboxID) {
		t.Errorf("calls are %s", calls)
	}
	w.eventually("the living one is asked about", func() bool { return w.calls("CHECK") == 1 })
	for _, id := range []string{recorded.SandboxID, alive.SandboxID} {
		if err := n.Remove(t.Context(), id, nil); err != nil {
			t.Error(err)
		}
	}
	w.clean("at the end")
}

// TestPluginsOfAKilledDaemonAreEnded, those of dead pods: what a living pod's plugin left behind is the pod's, and so is
// a daemon that a plugin started.
func TestPluginsOfAKilledDaemonAreEnded(t *testing.T) {
	w := newWorld(t)
	w.open(nil)
	w.write("added", `sleep 1000 </dev/null >/dev/null 2>&1 &`)
	alive, result := w.add()
	dead, _ := w.add()
	w.write("added", `setsid sleep 1000 </dev/null >/dev/null 2>&1 &`)
	daemon, _ := w.add()
	w.eventually("three children", func() bool { return len(plugin.Strays(w.cfg.CacheDir)) == 3 })
	must(os.Mkdir(w.dir+"/recorded", 0o755))
	for _, r := range []spec.NetworkRequest{alive, dead, daemon} {
		w.write("recorded/"+r.SandboxID, "yes")
	}
	w.open(map[string]spec.NetworkResult{alive.SandboxID: result})
	var left []string
	for _, s := range plugin.Strays(w.cfg.CacheDir) {
		left = append(left, s.Sandbox)
	}
	slices.Sort(left)
	want := []string{alive.SandboxID, daemon.SandboxID}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("%v are left, want %v", left, want)
	}
	if !strings.Contains(w.log.String(), "processes=1") {
		t.Errorf("the log says\n%s", w.log)
	}
}

// TestUnreadableAttachment: its DEL is made with the present configuration, by the id.
func TestUnreadableAttachment(t *testing.T) {
	for name, damage := range map[string]func(path string){
		"torn":       func(p string) { must(os.Truncate(p, 10)) },
		"empty":      func(p string) { must(os.Truncate(p, 0)) },
		"of another": func(p string) { must(os.WriteFile(p, []byte(strings.Repeat(" ", 10)+`{"Version":1}`), 0o600)) },
		"of a later release": func(p string) {
			b, _ := os.ReadFile(p)
			must(os.WriteFile(p, []byte(strings.Replace(string(b), `"Version":1`, `"Version":2`, 1)), 0o600))
		},
	} {
		w := newWorld(t)
		n := w.open(nil)
		r, _ := w.add()
		damage(filepath.Join(w.cfg.CacheDir, attachedDir, r.SandboxID+".json"))
		if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.clean(name)
	}
}

const oneOne = `{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"actor"}]}`

// TestGCNamesWhatIsAttached: before the first ADD and alone, once for each network; and not where the list forbids it.
func TestGCNamesWhatIsAttached(t *testing.T) {
	w := newWorld(t)
	w.write("net.d/10-net.conflist", oneOne)
	w.write("behave", `version=1.1.0; echo $CNI_COMMAND begins >> $dir/order; [ $CNI_COMMAND != GC ] || sleep 0.3; echo $CNI_COMMAND goes on >> $dir/order`)
	w.open(nil)
	alive, result := w.add()
	if w.calls("GC") != 1 {
		t.Errorf("%d GCs", w.calls("GC"))
	}
	must(os.Mkdir(w.dir+"/recorded", 0o755))
	w.write("recorded/"+alive.SandboxID, "yes")
	w.remove("order")
	w.open(map[string]spec.NetworkResult{alive.SandboxID: result})
	w.add()
	w.add()
	if w.calls("GC") != 2 {
		t.Errorf("%d GCs", w.calls("GC"))
	}
	var c struct {
		Valid []map[string]string `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal([]byte(w.read("stdin.GC")), &c); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(c.Valid), fmt.Sprint([]map[string]string{{"containerID": alive.SandboxID, "ifname": "eth0"}}); got != want {
		t.Errorf("valid attachments are %s, want %s", got, want)
	}
	for i, line := range strings.Split(w.read("order"), "\n") {
		if strings.HasPrefix(line, "ADD") && !strings.Contains(strings.Join(strings.Split(w.read("order"), "\n")[:i], "\n"), "GC goes on") {
			t.Errorf("an ADD before the end of the GC:\n%s", w.read("order"))
		}
	}
	w.write("net.d/10-net.conflist", strings.Replace(oneOne, `"name":"net"`, `"name":"shared","disableGC":true`, 1))
	w.add()
	if w.calls("GC") != 2 {
		t.Errorf("%d GCs with disableGC", w.calls("GC"))
	}
}

// TestGCThatHangs costs its time, and then pods are connected.
func TestGCThatHangs(t *testing.T) {
	w := newWorld(t)
	w.cfg.DelTimeout = 1e9
	w.write("net.d/10-net.conflist", oneOne)
	w.write("behave", `version=1.1.0; [ $CNI_COMMAND != GC ] || sleep 1000`)
	w.open(nil)
	w.add()
	if !strings.Contains(w.log.String(), "could not collect garbage") {
		t.Errorf("the log says\n%s", w.log)
	}
}

func TestLeaks(t *testing.T) {
	w := newWorld(t)
	if got, err := Leaks(w.cfg.CacheDir, nil); err != nil || len(got) > 0 {
		t.Errorf("where no daemon was: %v, %v", got, err)
	}
	w.open(nil)
	r, _ := w.add()
	w.write("added", `sleep 1000 </dev/null >/dev/null 2>&1 &`)
	w.add()
	if got, err := Leaks(w.cfg.CacheDir, func(string) bool { return true }); err != nil || len(got) > 0 {
		t.Errorf("of recorded sandboxes: %v, %v", got, err)
	}
	got, err := Leaks(w.cfg.CacheDir, func(id string) bool { return id == r.SandboxID })
	if err != nil || len(got) != 2 || !strings.Contains(got[0], "attachment ") || !strings.Contains(got[1], "process ") {
		t.Errorf("of one that is not recorded: %q, %v", got, err)
	}
	must(os.Remove(w.n.journal.path(attachedDir, r.SandboxID)))
	got, err = Leaks(w.cfg.CacheDir, func(string) bool { return true })
	if err != nil || len(got) != 1 || !strings.Contains(got[0], "result ") {
		t.Errorf("a result alone: %q, %v", got, err)
	}
}

func TestCheckForAPerson(t *testing.T) {
	w := newWorld(t)
	w.open(nil)
	bad, _ := w.add()
	w.add()
	find := func() string {
		var out []string
		for _, f := range Check(t.Context(), w.cfg) {
			if f.What == "" || f.Why == "" || f.Fix == "" {
				t.Errorf("%+v says too little", f)
			}
			out = append(out, f.What+": "+f.Why)
		}
		return strings.Join(out, "\n")
	}
	if got := find(); got != "" {
		t.Errorf("a good node: %s", got)
	}
	w.write("behave", `[ $CNI_COMMAND.$CNI_CONTAINERID != CHECK.`+bad.SandboxID+` ] || { echo '{"code":100,"msg":"gone"}'; exit 1; }`)
	if got := find(); !strings.Contains(got, bad.SandboxID) || !strings.Contains(got, "gone") || strings.Contains(got, "\n") {
		t.Errorf("a pod that is not connected: %s", got)
	}
	w.write("behave", `[ $CNI_COMMAND != DEL ] || exit 1`)
	if err := w.n.Remove(t.Context(), bad.SandboxID, nil); err == nil {
		t.Error("the DEL succeeded")
	}
	if got := find(); !strings.Contains(got, "not let 1 stopped pods go") {
		t.Errorf("a pod that is not let go: %s", got)
	}
	w.remove("behave")
	w.write("net.d/10-net.conflist", "{")
	if got := find(); !strings.Contains(got, "no pod can be connected: network configuration 10-net.conflist in "+w.cfg.ConfDir) {
		t.Errorf("a configuration that is broken: %s", got)
	}
	w.write("net.d/10-net.conflist", strings.Replace(oneZero, "actor", "nobody", 1))
	if got := find(); !strings.Contains(got, `plugin "nobody" is in none of `) {
		t.Errorf("a plugin that is missing: %s", got)
	}
	w.cfg.BinDirs = nil
	if got := find(); !strings.Contains(got, "no directory of CNI plugins") {
		t.Errorf("no configuration: %s", got)
	}
}
