package capability

import (
	"slices"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestResolve(t *testing.T) {
	held := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
	def := []string{"CAP_CHOWN", "CAP_KILL"}
	for _, c := range []struct {
		name       string
		change     spec.CapabilityChange
		privileged bool
		user       bool
		userns     bool
		bounding   string
		effective  string
		ambient    string
		bad        bool
	}{
		{name: "default", bounding: "CHOWN KILL", effective: "CHOWN KILL"},
		{name: "not root", user: true, bounding: "CHOWN KILL"},
		{name: "add", change: spec.CapabilityChange{Add: []string{"net_raw"}}, bounding: "CHOWN KILL NET_RAW", effective: "CHOWN KILL NET_RAW"},
		{name: "add with prefix", change: spec.CapabilityChange{Add: []string{"cap_Net_Raw"}}, bounding: "CHOWN KILL NET_RAW", effective: "CHOWN KILL NET_RAW"},
		{name: "drop", change: spec.CapabilityChange{Drop: []string{"KILL"}}, bounding: "CHOWN", effective: "CHOWN"},
		{name: "drop what is not there", change: spec.CapabilityChange{Drop: []string{"SYS_TIME"}}, bounding: "CHOWN KILL", effective: "CHOWN KILL"},
		{name: "drop all", change: spec.CapabilityChange{Drop: []string{"ALL"}}},
		{name: "drop all, add one", change: spec.CapabilityChange{Drop: []string{"all"}, Add: []string{"KILL"}}, bounding: "KILL", effective: "KILL"},
		{name: "add all", change: spec.CapabilityChange{Add: []string{"ALL"}}, bounding: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN", effective: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN"},
		{name: "add all, drop one", change: spec.CapabilityChange{Add: []string{"ALL"}, Drop: []string{"SYS_ADMIN"}}, bounding: "CHOWN KILL NET_ADMIN NET_RAW", effective: "CHOWN KILL NET_ADMIN NET_RAW"},
		{name: "the same added and dropped", change: spec.CapabilityChange{Add: []string{"NET_RAW"}, Drop: []string{"NET_RAW"}}, bounding: "CHOWN KILL", effective: "CHOWN KILL"},
		{name: "privileged", privileged: true, change: spec.CapabilityChange{Drop: []string{"ALL"}}, bounding: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN", effective: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN"},
		{name: "ambient for a user", user: true, change: spec.CapabilityChange{AddAmbient: []string{"NET_RAW"}}, bounding: "CHOWN KILL NET_RAW", effective: "NET_RAW", ambient: "NET_RAW"},
		{name: "ambient but dropped", user: true, change: spec.CapabilityChange{AddAmbient: []string{"NET_RAW"}, Drop: []string{"NET_RAW"}}, bounding: "CHOWN KILL"},
		{name: "not held", change: spec.CapabilityChange{Add: []string{"SYS_TIME"}}, bad: true},
		{name: "not held, in a user namespace", userns: true, change: spec.CapabilityChange{Add: []string{"SYS_TIME"}}, bounding: "CHOWN KILL SYS_TIME", effective: "CHOWN KILL SYS_TIME"},
		{name: "ambient, not held", change: spec.CapabilityChange{AddAmbient: []string{"SYS_TIME"}}, bad: true},
		{name: "ambient all", change: spec.CapabilityChange{AddAmbient: []string{"ALL"}}, bad: true},
		{name: "add all and drop all", change: spec.CapabilityChange{Add: []string{"ALL"}, Drop: []string{"ALL"}}},
		{name: "drop all, privileged", privileged: true, user: true, change: spec.CapabilityChange{Drop: []string{"ALL"}}, bounding: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN"},
		{name: "all in a user namespace is what is held", userns: true, change: spec.CapabilityChange{Add: []string{"CAP_ALL"}}, bounding: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN", effective: "CHOWN KILL NET_ADMIN NET_RAW SYS_ADMIN"},
		{name: "cap_cap_", change: spec.CapabilityChange{Add: []string{"CAP_CAP_KILL"}}, bad: true},
		{name: "no such", change: spec.CapabilityChange{Add: []string{"ROOT"}}, bad: true},
		{name: "empty", change: spec.CapabilityChange{Add: []string{""}}, bad: true},
		{name: "no such to drop", change: spec.CapabilityChange{Drop: []string{"CAP_"}}, bad: true},
		{name: "no such ambient", change: spec.CapabilityChange{AddAmbient: []string{"x\n"}}, bad: true},
	} {
		got, err := Resolve(Request{Change: c.change, Privileged: c.privileged, Default: def, Held: held, Root: !c.user, UserNamespace: c.userns})
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		short := func(names []string) string { return strings.ReplaceAll(strings.Join(names, " "), "CAP_", "") }
		if short(got.Bounding) != c.bounding || short(got.Effective) != c.effective || short(got.Permitted) != c.effective || short(got.Ambient) != c.ambient {
			t.Errorf("%s: bounding %q effective %q ambient %q", c.name, short(got.Bounding), short(got.Effective), short(got.Ambient))
		}
		if !slices.Equal(got.Inheritable, got.Ambient) {
			t.Errorf("%s: inheritable is %v; it must hold what is ambient and no more", c.name, got.Inheritable)
		}
	}
}

func TestHeldIsKnown(t *testing.T) {
	held, err := Held()
	if err != nil || len(held) == 0 {
		t.Fatal(held, err)
	}
	for _, n := range append(held, Default...) {
		if got, err := Normal(n); err != nil || got != n {
			t.Errorf("%s: %q, %v", n, got, err)
		}
	}
}

func FuzzNormal(f *testing.F) {
	f.Add("net_raw")
	f.Add("CAP_\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := Normal(s); err == nil && got != "ALL" && !slices.Contains(Known(), got) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestResolveLimitsTheNodesListToWhatIsHeld(t *testing.T) {
	got, err := Resolve(Request{Default: []string{"KILL", "SYS_TIME"}, Held: []string{"CAP_KILL"}, Root: true})
	if err != nil || !slices.Equal(got.Bounding, []string{"CAP_KILL"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"ALL", "x", ""} {
		if _, err := Resolve(Request{Default: []string{name}}); err == nil {
			t.Errorf("default %q: accepted", name)
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("ALL", "KILL", "NET_RAW", true, false)
	f.Fuzz(func(t *testing.T, add, drop, ambient string, root, userns bool) {
		held := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"}
		got, err := Resolve(Request{Default: Default, Held: held, Root: root, UserNamespace: userns,
			Change: spec.CapabilityChange{Add: []string{add}, Drop: []string{drop}, AddAmbient: []string{ambient}}})
		if err != nil {
			return
		}
		if !slices.Equal(got.Inheritable, got.Ambient) {
			t.Errorf("inheritable %v, ambient %v", got.Inheritable, got.Ambient)
		}
		for _, c := range slices.Concat(got.Effective, got.Permitted, got.Ambient) {
			if !slices.Contains(got.Bounding, c) {
				t.Errorf("%s is not in the bounding set", c)
			}
		}
		for _, c := range got.Bounding {
			if d, _ := Normal(drop); c == d || !userns && !slices.Contains(held, c) {
				t.Errorf("%s is given", c)
			}
		}
	})
}
