package policy

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// looking is a container that shares the PID namespace of another.
func looking(d *daemontest.Daemon, name, script, target string) *v1.ContainerConfig {
	c := d.ContainerConfig(name, script)
	c.Linux.SecurityContext.NamespaceOptions.Pid, c.Linux.SecurityContext.NamespaceOptions.TargetId = v1.NamespaceMode_TARGET, target
	return c
}

func TestTarget(t *testing.T) {
	for policy, config := range map[string]string{"auto": "", "cri": cri} {
		t.Run(policy, func(t *testing.T) {
			d := started(t, config)
			kinds := map[string]*v1.UserNamespace{"nothing": nil, "node": nodeUsers, "pod": {Mode: v1.NamespaceMode_POD}}
			if policy == "cri" { // both share all of it: once is enough
				kinds = map[string]*v1.UserNamespace{"nothing": nil}
			}
			for name, users := range kinds {
				id, p := pod(d, "target-"+name, users)
				main := d.RunContainer(id, p, d.ContainerConfig("main", "sleep 4321 & "+daemontest.Sleep))
				other := d.RunContainer(id, p, d.ContainerConfig("other", daemontest.Sleep))
				debug := d.RunContainer(id, p, looking(d, "debug", daemontest.Sleep, main))
				const ns = "readlink /proc/self/ns/pid"
				if a, b, c := d.Exec(main, ns), d.Exec(debug, ns), d.Exec(other, ns); a != b || a == c {
					t.Errorf("%s: PID namespaces %s, of the one that looks %s, of another %s", name, a, b, c)
				}
				if got := d.Exec(debug, "ps -o args | grep -c '^sleep 4321$'"); got != "1" {
					t.Errorf("%s: the target's processes are not seen: %s", name, got)
				}
				// It sees them, and is not one of the target's: its files and its limits are its own.
				if a, b := d.Exec(main, "cat /proc/self/cgroup"), d.Exec(debug, "cat /proc/1/cgroup; cat /proc/self/cgroup"); a == b || strings.Contains(b, "/init\n") {
					t.Errorf("%s: %s, %s", name, a, b)
				}
				// Where the target's first process ends, the kernel ends the namespace.
				if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: main, Timeout: 10}); err != nil {
					t.Fatal(err)
				}
				if s := d.Ended(debug); s.ExitCode != 137 {
					t.Errorf("%s: the one that looked ended with %d", name, s.ExitCode)
				}
				if s := d.Status(other); s.State != v1.ContainerState_CONTAINER_RUNNING {
					t.Errorf("%s: a third container is %v", name, s.State)
				}
			}
		})
	}
}

func TestTargetRefused(t *testing.T) {
	d := started(t, "")
	a, pa := pod(d, "a", nil)
	b, _ := pod(d, "b", nil)
	ofA := d.RunContainer(a, pa, d.ContainerConfig("main", daemontest.Sleep))
	created := d.Create(a, pa, d.ContainerConfig("created", daemontest.Sleep))
	ended := d.RunContainer(a, pa, d.ContainerConfig("ended", "true"))
	d.Ended(ended)
	refused(t, d, b, looking(d, "of-another-pod", "true", ofA), codes.InvalidArgument, "another pod")
	refused(t, d, a, looking(d, "not-started", "true", created), codes.FailedPrecondition, "running")
	refused(t, d, a, looking(d, "ended-before", "true", ended), codes.FailedPrecondition, "running")
	refused(t, d, a, looking(d, "unknown", "true", strings.Repeat("0", 64)), codes.NotFound, "target")
	refused(t, d, a, looking(d, "nobody", "true", ""), codes.InvalidArgument, "target_id")
	refused(t, d, a, looking(d, "the-pod", "true", a), codes.NotFound, "target")
	// A target that ends before the start: nothing runs, and the reason is said.
	late := d.Create(a, pa, looking(d, "late", "true", ofA))
	if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: ofA}); err != nil {
		t.Fatal(err)
	}
	_, err := d.Conn().Runtime.StartContainer(daemontest.Ctx(t), &v1.StartContainerRequest{ContainerId: late})
	if err == nil || !strings.Contains(err.Error(), "target") {
		t.Errorf("started beside a target that ended: %v", err)
	}
	if s := d.Status(late); s.State != v1.ContainerState_CONTAINER_EXITED || s.Reason != "StartError" {
		t.Errorf("%v %s", s.State, s.Reason)
	}
}

// A target with the node's ids, in a pod with a user namespace: whoever looks has them too, and the record says why.
func TestTargetWithTheNodesIDs(t *testing.T) {
	d := started(t, "")
	id, p := pod(d, "privileged-target", nil)
	c := d.ContainerConfig("main", daemontest.Sleep)
	c.Linux.SecurityContext.Privileged = true
	main := d.RunContainer(id, p, c)
	debug := d.RunContainer(id, p, looking(d, "debug", daemontest.Sleep, main))
	if a, b := d.Exec(main, "readlink /proc/self/ns/pid"), d.Exec(debug, "readlink /proc/self/ns/pid"); a != b {
		t.Errorf("PID namespaces %s and %s", a, b)
	}
	r, err := d.Conn().Runtime.ContainerStatus(daemontest.Ctx(t), &v1.ContainerStatusRequest{ContainerId: debug, Verbose: true})
	if err != nil || !strings.Contains(r.Info["info"], "security.namespaces.target") {
		t.Errorf("the record does not say why: %v, %v", r.GetInfo(), err)
	}
	if got := strings.Fields(d.Exec(debug, "grep -E 'CapEff|Seccomp:' /proc/self/status")); got[1] == "000001ffffffffff" || got[3] != "2" {
		t.Errorf("it got more than the ids: %v", got)
	}
}
