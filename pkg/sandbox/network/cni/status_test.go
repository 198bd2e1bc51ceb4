package cni

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestConditionFollowsTheDirectory, and names directory, file and error.
func TestConditionFollowsTheDirectory(t *testing.T) {
	w := newWorld(t)
	w.remove("net.d")
	n := w.open(nil)
	becomes := func(ok bool, parts ...string) {
		t.Helper()
		w.eventually(strings.Join(parts, " "), func() bool {
			c := n.Condition()
			for _, p := range parts {
				if !strings.Contains(c.Message, p) {
					return false
				}
			}
			return c.OK == ok && (ok || c.Reason == reason)
		})
	}
	becomes(false, w.cfg.ConfDir, "is not there")
	must(mkdir(w.cfg.ConfDir))
	becomes(false, w.cfg.ConfDir, "no network configuration")
	w.write("net.d/10-net.conflist", `{"cniVersion":`)
	becomes(false, w.cfg.ConfDir, "10-net.conflist", "unexpected end of JSON input")
	w.write("net.d/10-net.conflist", strings.Replace(oneZero, "actor", "nobody", 1))
	becomes(false, w.cfg.ConfDir, "10-net.conflist", `"nobody"`, "/bin")
	w.write("net.d/10-net.conflist", oneZero)
	becomes(true)
	w.write("net.d/00-first.json", `{"name":"first"}`)
	becomes(false, "00-first.json", "missing 'type'")
	w.remove("net.d/00-first.json")
	becomes(true)
	w.remove("net.d")
	becomes(false, w.cfg.ConfDir, "is not there")
	must(mkdir(w.cfg.ConfDir))
	w.write("net.d/10-net.conflist", oneZero)
	becomes(true)
	for i := range 3 { // another directory in its place, at once
		must(os.Rename(w.cfg.ConfDir, fmt.Sprintf("%s/old.%d", w.dir, i)))
		must(mkdir(w.cfg.ConfDir))
		w.write("net.d/10-net.conflist", oneZero)
	}
	w.write("net.d/00-first.json", `{`)
	becomes(false, "00-first.json")
	w.remove("net.d/00-first.json")
	becomes(true)
	w.write("net.d/00-first.json", `{`) // nobody has to ask: that it is ready is an hour's answer here
	becomes(false, "00-first.json")
}

// TestConditionAsksThePlugins: STATUS of 1.1, behind the question, with the plugin's own words; an answer is as old as
// the interval at most, and a bad one a moment.
func TestConditionAsksThePlugins(t *testing.T) {
	w := newWorld(t)
	w.write("net.d/10-net.conflist", oneOne)
	w.write("behave", `[ $CNI_COMMAND != STATUS ] || { echo '{"code":50,"msg":"the route server is away"}'; exit 1; }`)
	n := w.open(nil)
	w.eventually("the plugin's words", func() bool {
		c := n.Condition()
		return !c.OK && strings.Contains(c.Message, "cannot connect pods now") && strings.Contains(c.Message, "the route server is away")
	})
	w.write("behave", `[ $CNI_COMMAND != STATUS ] || { echo '{"code":51,"msg":"half"}'; exit 1; }`)
	w.eventually("limited connectivity", func() bool { return strings.Contains(n.Condition().Message, "limited connectivity") })
	w.remove("behave")
	w.eventually("it is ready", func() bool { return n.Condition().OK })
	asked := w.calls("STATUS")
	for range 100 {
		n.Condition()
	}
	if got := w.calls("STATUS"); got != asked {
		t.Errorf("%d more STATUS within the interval", got-asked)
	}
}

// TestConditionNeverWaits, whatever a plugin does.
func TestConditionNeverWaits(t *testing.T) {
	w := newWorld(t)
	w.write("net.d/10-net.conflist", oneOne)
	w.write("behave", `[ $CNI_COMMAND != STATUS ] || sleep 1000`)
	n := w.open(nil)
	c := n.Condition()
	if c.OK || !strings.Contains(c.Message, "have not been asked yet") {
		t.Errorf("%+v", c)
	}
	w.eventually("the plugin hangs", func() bool { return w.calls("STATUS") > 0 })
	n.Close() // ends it
	w.n = nil
}
