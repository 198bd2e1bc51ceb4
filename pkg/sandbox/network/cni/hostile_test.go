package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// hostile are plugins that misbehave in ADD: what they do before and after an address is taken, or what they answer.
var hostile = map[string]struct {
	behave, added, answer string
	says                  string
}{
	"hangs":                     {behave: `[ $CNI_COMMAND = ADD ] && sleep 1000`, says: "its time was over"},
	"hangs with the address":    {added: `sleep 1000`, says: "its time was over"},
	"hangs in another group":    {added: `setsid sleep 1000 & exec sleep 1000`, says: "its time was over"},
	"hangs deaf":                {added: `trap '' TERM INT HUP; sleep 1000`, says: "its time was over"},
	"floods":                    {added: `cat /dev/zero`, says: "it wrote more than it may"},
	"floods the other stream":   {added: `cat /dev/zero >&2`, says: "it wrote more than it may"},
	"fails":                     {added: `echo '{"cniVersion":"1.0.0","code":100,"msg":"no luck","details":"today"}'; exit 1`, says: `no luck: today`},
	"fails with other words":    {added: `echo oops >&2; exit 3`, says: `ended with "exit status 3" and said "oops"`},
	"fails with many words":     {added: `head -c 100000 /dev/zero | tr '\0' x >&2; exit 3`, says: `xxx…"`},
	"kills itself":              {added: `kill -9 $$`, says: `signal: killed`},
	"answers nonsense":          {answer: `echo nonsense`, says: "invalid character"},
	"answers nothing":           {answer: `true`, says: "unexpected end of JSON"},
	"answers another version":   {answer: `echo '{"cniVersion":"9.9.9"}'`, says: `9.9.9`},
	"names no address":          {answer: `echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}]}'`, says: "no address for eth0"},
	"names nothing's interface": {answer: `echo '{"cniVersion":"1.0.0","ips":[{"interface":7,"address":"10.9.0.2/24"}]}'`, says: "is on interface 7, of 0"},
	"names no real address":     {answer: `echo '{"cniVersion":"1.0.0","ips":[{"address":"0.0.0.0/0"}]}'`, says: "which no link can have"},
	"names loopback":            {answer: `echo '{"cniVersion":"1.0.0","ips":[{"address":"127.0.0.1/8"}]}'`, says: "which no link can have"},
	"names no real gateway":     {answer: `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24","gateway":"::1"}]}'`, says: "has the gateway"},
	"names one address twice":   {answer: `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.3/24"},{"address":"10.9.0.3/24"}]}'`, says: "twice"},
	"lies about the address":    {answer: `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.99/24"}]}'`, says: "10.9.0.99, which eth0 in the pod has not"},
	"lies about the link":       {added: `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.99/24"}]}'; exit 0`, says: "there is no eth0 in the pod"},
	"gives a neighbour's":       {added: `ip=10.9.0.2`, says: "which sandbox"},
}

// TestHostilePluginHarmsOnlyItsPod: the ADD fails in time and says why, nothing of it runs on, its DEL frees what it took,
// and the pod beside it keeps its own.
func TestHostilePluginHarmsOnlyItsPod(t *testing.T) {
	for name, h := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.open(nil)
			good, _ := w.add()
			w.close()
			hangs := strings.HasPrefix(name, "hangs")
			if hangs {
				w.cfg.AddTimeout = time.Second
			}
			n := w.open(map[string]spec.NetworkResult{good.SandboxID: {Addresses: []spec.Address{{IP: "10.9.0.2", Prefix: 24}}}})
			for file, text := range map[string]string{"behave": h.behave, "added": h.added, "answer": h.answer} {
				if text != "" {
					w.write(file, text)
				}
			}
			r := w.request(nil)
			_, err := n.Add(short(t, 30*time.Second), r)
			if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), h.says) || !strings.Contains(err.Error(), "10-net.conflist") {
				t.Errorf("ADD: %v", err)
			}
			if len(fmt.Sprint(err)) > 4096 {
				t.Errorf("the error has %d bytes", len(fmt.Sprint(err)))
			}
			w.eventually("no process of the plugin's", func() bool { return len(plugin.Strays(w.cfg.CacheDir)) == 0 })
			for _, file := range []string{"behave", "added", "answer"} {
				w.remove(file)
			}
			if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
				t.Error(err)
			}
			if got := fmt.Sprint(w.taken()); got != "[10.9.0.2]" {
				t.Errorf("addresses %s are taken", got)
			}
			if err := n.Remove(t.Context(), good.SandboxID, nil); err != nil {
				t.Error(err)
			}
			w.clean("at the end")
		})
	}
}

// TestMissingPlugin: where it is missing for the ADD, nothing is begun and nothing owed; where it is missing for the DEL,
// that is made once it is back.
func TestMissingPlugin(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	there, _ := w.add()
	must(os.Rename(filepath.Join(w.dir, "bin/actor"), filepath.Join(w.dir, "actor")))
	r := w.request(nil)
	if _, err := n.Add(t.Context(), r); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `plugin "actor" is in none of`) {
		t.Errorf("ADD: %v", err)
	}
	if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
		t.Errorf("DEL of nothing: %v", err)
	}
	if err := n.Remove(t.Context(), there.SandboxID, nil); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `plugin "actor" is in none of`) {
		t.Errorf("DEL: %v", err)
	}
	must(os.Rename(filepath.Join(w.dir, "actor"), filepath.Join(w.dir, "bin/actor")))
	w.eventually("the DEL behind", func() bool { return len(w.cacheFiles()) == 0 })
}

// TestDELThatFailsTenTimes: the caller is told at once, and the address is free once the plugin gives in.
func TestDELThatFailsTenTimes(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	r, result := w.add()
	w.write("deleting", `echo x >> $dir/failures; [ $(wc -l < $dir/failures) -gt 10 ] || { echo '{"code":11,"msg":"not now"}'; exit 1; }`)
	if err := n.Remove(t.Context(), r.SandboxID, &result); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "not now") {
		t.Errorf("DEL: %v", err)
	}
	if got := fmt.Sprint(w.taken()); got != "[10.9.0.2]" {
		t.Errorf("%s are taken", got)
	}
	if _, err := n.Add(t.Context(), r); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("ADD of what is leaving: %v", err)
	}
	w.eventually("the address is free", func() bool { return len(w.taken()) == 0 && len(w.cacheFiles()) == 0 })
	if got := w.calls("DEL"); got != 11 {
		t.Errorf("%d DELs, want 11", got)
	}
	if err := n.Remove(t.Context(), r.SandboxID, &result); err != nil {
		t.Error(err)
	}
	w.clean("at the end")
}

// TestGivenUp: an operator removes the file of a DEL that will never succeed.
func TestGivenUp(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	r, result := w.add()
	w.write("deleting", "exit 1")
	if err := n.Remove(t.Context(), r.SandboxID, &result); err == nil {
		t.Fatal("the DEL succeeded")
	}
	w.remove("cache/leaving/" + r.SandboxID + ".json")
	if err := n.Remove(t.Context(), r.SandboxID, &result); err != nil {
		t.Error(err)
	}
	if got := w.cacheFiles(); len(got) > 0 {
		t.Errorf("%v is in the cache", got)
	}
	w.eventually("nobody tries any more", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.retiring) == 0 })
}

// TestDELThatHangs ends with its time, and does not hold up another pod's.
func TestDELThatHangs(t *testing.T) {
	w := newWorld(t)
	w.cfg.DelTimeout = 5 * time.Second
	n := w.open(nil)
	bad, _ := w.add()
	good, _ := w.add()
	w.write("deleting", `[ $CNI_CONTAINERID = `+bad.SandboxID+` ] && [ -e $dir/hang ] && sleep 1000`)
	w.write("hang", "yes")
	done := make(chan error)
	go func() { done <- n.Remove(t.Context(), bad.SandboxID, nil) }()
	w.eventually("the DEL hangs", func() bool { return w.calls("DEL") > 0 })
	if err := n.Remove(t.Context(), good.SandboxID, nil); err != nil {
		t.Errorf("the neighbour's DEL: %v", err)
	}
	if err := <-done; !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "its time was over") {
		t.Errorf("the DEL: %v", err)
	}
	w.remove("hang")
	w.eventually("the address is free", func() bool { return len(w.taken()) == 0 && len(w.cacheFiles()) == 0 })
}

// TestCallerThatLeaves: its ADD ends, and what was made is found again.
func TestCallerThatLeaves(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	w.write("added", "sleep 1000")
	r := w.request(nil)
	ctx := short(t, 30*time.Second)
	done := make(chan error)
	go func() {
		_, err := n.Add(ctx, r)
		done <- err
	}()
	w.eventually("the address is taken", func() bool { return len(w.taken()) > 0 })
	w.close()
	n = w.open(nil) // the daemon is another meanwhile: it ended the plugin
	if err := <-done; err == nil {
		t.Error("the ADD succeeded")
	}
	w.remove("added")
	if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
		t.Error(err)
	}
	w.clean("at the end")
}
