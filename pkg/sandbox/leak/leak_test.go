package leak

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
)

func TestNothingWhereNoDaemonWas(t *testing.T) {
	w := newWorld(t)
	w.o.Layout = spec.Layout{Root: t.TempDir() + "/none", Run: t.TempDir() + "/none", Netns: t.TempDir() + "/none"}
	w.clean("no directories")
}

// everything gives a sandbox every kind of object, as a daemon does.
func (w *world) everything(sid, cid string) {
	l := w.o.Layout
	for _, kind := range []string{"uts", "ipc"} {
		w.pin(kind, l.Pin(sid, kind))
	}
	w.netns(sid)
	w.tmpfs(l.Shm(sid))
	must(os.MkdirAll(l.Rootfs(cid), 0o700))
	must(os.WriteFile(l.ShimSocket(cid), nil, 0o600))
	pod := w.o.CgroupRoot + "/pods/" + sid
	must(w.o.Cgroups.Create(w.t.Context(), pod, nil))
	w.join(pod+"/"+cid, w.sleeper("/proc/self/exe", w.o.Pool.Start))
	w.join(pod+"/init", w.sleeper("/proc/self/exe", 0))
	shim := w.sleeper(w.program("runtimed-monitor"), 0, "version=1", "dir="+l.Container(sid, cid))
	w.join(w.o.CgroupRoot+"/shims", shim)
}

// TestOwnedObjectsAreNoLeaks, until their record goes: then each is one.
func TestOwnedObjectsAreNoLeaks(t *testing.T) {
	w := newWorld(t)
	sid, cid := w.sandbox(nil)
	w.everything(sid, cid)
	w.clean("a running pod")

	hidden := filepath.Join(t.TempDir(), "record")
	must(os.Rename(w.o.Layout.Sandbox(sid), hidden))
	seen := map[Kind]int{}
	for _, l := range w.find() {
		seen[l.Kind]++
		if l.What == "" || l.Fix == "" {
			t.Errorf("%+v says too little", l)
		}
	}
	want := map[Kind]int{Process: 3, Pin: 3, Mount: 1, Cgroup: 1, Directory: 4}
	for kind, n := range want {
		if seen[kind] != n {
			t.Errorf("%d leaks of kind %s, want %d: %v", seen[kind], kind, n, w.find())
		}
	}
	must(os.Rename(hidden, w.o.Layout.Sandbox(sid)))
	w.clean("its record again")
}

// TestUnreadableRecordKeepsItsObjects: the daemon finds them by id when it starts.
func TestUnreadableRecordKeepsItsObjects(t *testing.T) {
	w := newWorld(t)
	sid, cid := w.sandbox(nil)
	w.everything(sid, cid)
	must(os.WriteFile(filepath.Join(w.o.Layout.Container(sid, cid), spec.SpecFile), []byte("{"), 0o600))
	w.clean("a torn container")
	must(os.WriteFile(filepath.Join(w.o.Layout.Sandbox(sid), spec.SpecFile), nil, 0o600))
	w.clean("an empty sandbox")
}

// TestStoppedSandboxHoldsNothing but its group and its range.
func TestStoppedSandboxHoldsNothing(t *testing.T) {
	for name, end := range map[string]func(*world, string){
		"stopped": func(w *world, sid string) {
			must(state.Replace(w.o.Layout.Sandbox(sid), spec.StatusFile, spec.SandboxStatus{Version: spec.RecordVersion, ReadyAt: 1, StoppedAt: 2}))
		},
		"of another boot": func(w *world, sid string) {
			var s spec.Sandbox
			must(state.Read(w.o.Layout.Sandbox(sid), spec.SpecFile, &s))
			s.BootID = "another"
			must(state.Replace(w.o.Layout.Sandbox(sid), spec.SpecFile, s))
		},
	} {
		w := newWorld(t)
		sid, _ := w.sandbox(nil)
		must(w.o.Cgroups.Create(t.Context(), w.o.CgroupRoot+"/pods/"+sid, nil))
		w.pin("uts", w.o.Layout.Pin(sid, "uts"))
		w.clean("ready")
		end(w, sid)
		found := w.find()
		if len(found) != 2 || found[0].Kind != Directory || found[1].Kind != Pin {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// TestPlantedLeaks of each kind are found, alone, and gone when they are.
func TestPlantedLeaks(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  Kind
		says  string
		plant func(w *world)
	}{
		{"a shim by its command line", Process, "is the shim of container", func(w *world) {
			w.sleeper(w.program("runtimed-shim"), 0, "create", w.o.Layout.Container(newID(), newID()))
		}},
		{"a shim of a container that has ended", Process, "which has ended", func(w *world) {
			sid, cid := w.sandbox(nil)
			must(state.WriteOnce(w.o.Layout.Container(sid, cid), spec.ExitFile, spec.Exit{Version: spec.RecordVersion}))
			w.sleeper(w.program("runtimed-monitor"), 0, "dir="+w.o.Layout.Container(sid, cid))
		}},
		{"a process among the shims", Process, "is the shim of no container", func(w *world) {
			w.join(w.o.CgroupRoot+"/shims", w.sleeper("/proc/self/exe", 0))
		}},
		{"a process with an id of the pool", Process, "runs with uid 2046820353", func(w *world) {
			w.sleeper(w.program("harmless"), w.o.Pool.Start+1)
		}},
		{"a mount of a container", Mount, "a container's mounts are never the node's", func(w *world) {
			_, cid := w.sandbox(nil)
			w.tmpfs(w.o.Layout.Rootfs(cid))
		}},
		{"a pin in the shared directory", Pin, "network namespace pin", func(w *world) { w.netns(newID()) }},
		{"the file of such a pin", Pin, "for a pin", func(w *world) {
			must(os.WriteFile(w.o.Layout.NetnsPin(newID()), nil, 0o600))
		}},
		{"a link on the bridge", Network, "is of no sandbox", func(w *world) { w.link(w.o.Network.VethName(newID())) }},
		{"an address of the subnet", Network, "10.99.0.7", func(w *world) { w.address("10.99.0.7/24") }},
		{"a group of a pod", Cgroup, "/pods/", func(w *world) {
			must(w.o.Cgroups.Create(w.t.Context(), w.o.CgroupRoot+"/pods/"+newID(), nil))
		}},
		{"a group of a pod below a parent of its own", Cgroup, "/kubelet/burstable/", func(w *world) {
			must(w.o.Cgroups.Create(w.t.Context(), w.o.CgroupRoot+"/kubelet/burstable/"+newID(), nil))
		}},
		{"a group of a container", Cgroup, "/pods/", func(w *world) {
			sid, _ := w.sandbox(nil)
			must(w.o.Cgroups.Create(w.t.Context(), w.o.CgroupRoot+"/pods/"+sid+"/"+newID(), nil))
		}},
		{"a group below the shims'", Cgroup, "/shims/", func(w *world) {
			must(w.o.Cgroups.CreateLeaf(w.t.Context(), w.o.CgroupRoot+"/shims/x"))
		}},
		{"a record in the trash", Directory, "being removed", func(w *world) { must(os.Mkdir(w.o.Layout.Root+"/trash/"+newID(), 0o700)) }},
		{"a root", Directory, "the root of a container", func(w *world) { must(os.Mkdir(w.o.Layout.Rootfs(newID()), 0o700)) }},
		{"a socket", Directory, "the socket of a shim", func(w *world) { must(os.WriteFile(w.o.Layout.ShimSocket(newID()), nil, 0o600)) }},
		{"a directory of pins", Directory, "pins of a sandbox", func(w *world) { must(os.MkdirAll(filepath.Dir(w.o.Layout.Pin(newID(), "uts")), 0o700)) }},
		{"a directory of shm", Directory, "/dev/shm", func(w *world) { must(os.Mkdir(w.o.Layout.Shm(newID()), 0o700)) }},
		{"a range that two hold", Range, "both hold the ids from 2046820352 to 2046885887", func(w *world) {
			w.sandbox(nil)
			w.next--
			w.sandbox(nil)
		}},
		{"a range that lies in another", Range, "to 2046820357", func(w *world) {
			w.sandbox(nil)
			w.sandbox(func(s *spec.Sandbox, _ *spec.Container) {
				s.Profile.UIDs = []spec.IDMapping{{HostID: w.o.Pool.Start - 5, Size: 11}}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.clean("before")
			c.plant(w)
			found := w.find()
			if len(found) != 1 || found[0].Kind != c.kind || !strings.Contains(found[0].What, c.says) {
				t.Errorf("found %+v, want one %s that says %q", found, c.kind, c.says)
			}
		})
	}
}

func (w *world) link(name string) {
	w.t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: w.o.Network.Bridge}}
	must(netlink.LinkAdd(bridge))
	w.t.Cleanup(func() { netlink.LinkDel(bridge) })
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name, MasterIndex: bridge.Index})
	v.PeerName = "rtleakpeer"
	must(netlink.LinkAdd(v))
	w.t.Cleanup(func() { netlink.LinkDel(v) })
}

func (w *world) address(cidr string) {
	w.t.Helper()
	d := netlink.NewVeth(netlink.LinkAttrs{Name: "rtleakaddr"})
	d.PeerName = "rtleakpeer"
	must(netlink.LinkAdd(d))
	w.t.Cleanup(func() { netlink.LinkDel(d) })
	a, err := netlink.ParseAddr(cidr)
	must(err)
	must(netlink.AddrAdd(d, a))
}

// TestPlantedRules: a pod that is connected for real has a link and rules; without a record they are leaks.
func TestPlantedRules(t *testing.T) {
	w := newWorld(t)
	sid, _ := w.sandbox(nil)
	w.netns(sid)
	n, err := network.New(w.o.Network, network.Options{})
	must(err)
	defer n.Close()
	must(n.Recover(t.Context(), nil))
	result, err := n.Add(t.Context(), spec.NetworkRequest{SandboxID: sid, Netns: w.o.Layout.NetnsPin(sid),
		Ports: []spec.PortMapping{{Protocol: spec.TCP, HostPort: 18099, ContainerPort: 80}}})
	must(err)
	result.Version = spec.RecordVersion
	must(state.WriteOnce(w.o.Layout.Sandbox(sid), spec.NetworkFile, result))
	w.clean("a connected pod")
	must(os.Rename(w.o.Layout.Sandbox(sid), filepath.Join(t.TempDir(), "record")))
	var rules, links int
	for _, l := range w.find() {
		if strings.Contains(l.What, "nftables set") && l.Kind == Network {
			rules++
		}
		if strings.Contains(l.What, result.HostVeth) && l.Kind == Network {
			links++
		}
	}
	if rules == 0 || links != 1 {
		t.Errorf("%d rules and %d links: %v", rules, links, w.find())
	}
	must(n.Remove(t.Context(), sid, nil))
}

// TestSecondLook: what is gone at the second look was no leak.
func TestSecondLook(t *testing.T) {
	w := newWorld(t)
	w.o.Settle = 300 * time.Millisecond
	passing, lasting := w.o.Layout.Root+"/trash/passing", w.o.Layout.Root+"/trash/lasting"
	must(os.Mkdir(passing, 0o700))
	must(os.Mkdir(lasting, 0o700))
	timer := time.AfterFunc(50*time.Millisecond, func() { os.Remove(passing) })
	defer timer.Stop()
	if found := w.find(); len(found) != 1 || !strings.Contains(found[0].What, lasting) {
		t.Errorf("%v", found)
	}
}

func TestBoth(t *testing.T) {
	a, b, c := Leak{Pin, "a", ""}, Leak{Pin, "b", ""}, Leak{Pin, "c", ""}
	if got := both([]Leak{a, b}, []Leak{b, c}); len(got) != 1 || got[0] != b {
		t.Errorf("%v", got)
	}
}

func TestFindGivesUpWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, w.o); err == nil {
		t.Error("a look that was broken off finds nothing wrong")
	}
}

// TestUnreadableRecordsAreAnError: who owns what is not known then.
func TestUnreadableRecordsAreAnError(t *testing.T) {
	w := newWorld(t)
	must(os.RemoveAll(w.o.Layout.Sandboxes()))
	must(os.WriteFile(w.o.Layout.Sandboxes(), nil, 0o600))
	if _, err := Find(t.Context(), w.o); err == nil {
		t.Error("no records, and no error")
	}
}
