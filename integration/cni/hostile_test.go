package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// actor is an honest plugin, but for what the files beside it have it do: before.<command> and <command>.<sandbox>.
const actor = `#!/bin/sh
dir=${0%/*}
cat >/dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >> $dir/calls
[ -e $dir/before.$CNI_COMMAND ] && . $dir/before.$CNI_COMMAND
case $CNI_COMMAND in
ADD)
	echo $CNI_CONTAINERID > $dir/new.$$
	n=2; while ! ln $dir/new.$$ $dir/store/10.86.0.$n 2>/dev/null; do n=$((n+1)); done
	[ -e $dir/taken.ADD ] && . $dir/taken.ADD
	nsenter --net=$CNI_NETNS sh -c "ip link add eth0 type veth peer name other && ip addr add 10.86.0.$n/24 dev eth0 && ip link set eth0 up" || exit 1
	echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"interface":0,"address":"10.86.0.'$n'/24"}]}'
	;;
DEL)
	for f in $dir/store/*; do [ "$(cat $f 2>/dev/null)" = $CNI_CONTAINERID ] && rm -f $f; done
	;;
esac
exit 0
`

func startActor(t *testing.T, o options) *node {
	t.Helper()
	o.files = map[string]string{"10-actor.conflist": `{"cniVersion":"1.0.0","name":"acted","plugins":[{"type":"actor"}]}`, "actor": actor}
	n := start(t, o)
	if err := os.Mkdir(n.bin+"/store", 0o755); err != nil {
		t.Fatal(err)
	}
	n.ready()
	n.Pull()
	return n
}

func (n *node) act(file, text string) {
	n.t.Helper()
	path := filepath.Join(n.bin, file)
	if text == "" {
		os.Remove(path)
		return
	}
	if err := os.WriteFile(path+"~", []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		n.t.Fatal(err)
	}
}

// taken fails unless so many addresses are.
func (n *node) taken(want int) {
	n.t.Helper()
	if got, _ := filepath.Glob(n.bin + "/store/*"); len(got) != want {
		n.t.Errorf("%d addresses are taken, want %d: %v", len(got), want, got)
	}
}

// running are the processes of containers that carry the mark in their arguments.
func running(mark string) int {
	n := 0
	for _, p := range daemontest.Processes() {
		if strings.Contains(strings.Join(p.Args, " "), mark) && p.State != "Z" {
			n++
		}
	}
	return n
}

// TestDELThatFails: the processes are dead and the sandbox is NOTREADY when the first Stop has failed; ten failures later
// the address is free, and the pod can be removed.
func TestDELThatFails(t *testing.T) {
	n := startActor(t, options{})
	const mark = "marked-for-death"
	pod, ctr := n.pod("pod", ": "+mark+"; "+daemontest.Sleep, nil)
	n.act("before.DEL", `echo x >> $dir/failures; [ $(wc -l < $dir/failures) -gt 10 ] || { echo '{"code":11,"msg":"not now"}'; exit 1; }`)
	if running(mark) == 0 {
		t.Fatal("the container does not run")
	}
	stop := func() error {
		_, err := n.Conn().Runtime.StopPodSandbox(daemontest.Ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: pod})
		return err
	}
	if err := stop(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not now") {
		t.Errorf("the first Stop: %v", err)
	}
	if k := running(mark); k > 0 {
		t.Errorf("%d processes of the pod run", k)
	}
	if s := n.Status(ctr); s.State != v1.ContainerState_CONTAINER_EXITED {
		t.Errorf("the container is %v", s.State)
	}
	r, err := n.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil || r.Status.State != v1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the sandbox is %v, %v", r.GetStatus().GetState(), err)
	}
	n.taken(1)
	if _, err := n.Conn().Runtime.RemovePodSandbox(daemontest.Ctx(t), &v1.RemovePodSandboxRequest{PodSandboxId: pod}); status.Code(err) != codes.Unavailable {
		t.Errorf("Remove: %v", err)
	}
	daemontest.Eventually(t, daemontest.Patience, stop)
	n.RemovePod(pod)
	n.taken(0)
	calls, _ := os.ReadFile(n.bin + "/calls")
	if got := strings.Count(string(calls), "DEL "); got != 11 {
		t.Errorf("%d DELs, want 11", got)
	}
	n.nothingLeft()
}

// TestPluginThatHangs: in ADD the pod fails in time, and another is made meanwhile; in DEL the processes are dead long
// before it is given up, and a daemon that starts serves at once.
func TestPluginThatHangs(t *testing.T) {
	n := startActor(t, options{keys: "add_timeout = 8\ndel_timeout = 120"})
	n.act("taken.ADD", "[ -e $dir/hang ] && exec sleep 1000")
	n.act("hang", "yes")
	failed := make(chan error, 1)
	go func() {
		_, err := n.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: n.PodConfig("hangs")})
		failed <- err
	}()
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if got, _ := filepath.Glob(n.bin + "/store/*"); len(got) == 0 {
			return fmt.Errorf("no plugin hangs")
		}
		return nil
	})
	n.act("hang", "")
	const mark = "marked-by-a-hang"
	pod, ctr := n.pod("good", ": "+mark+"; "+daemontest.Sleep, nil)
	if err := <-failed; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "its time was over") {
		t.Errorf("the pod whose plugin hangs: %v", err)
	}
	n.taken(1)

	n.act("before.DEL", "while [ -e $dir/hang ]; do sleep 0.1; done")
	n.act("hang", "yes")
	stopped := make(chan error, 1)
	go func() {
		_, err := n.Conn().Runtime.StopPodSandbox(daemontest.Ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: pod})
		stopped <- err
	}()
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if k := running(mark); k > 0 {
			return fmt.Errorf("%d processes run", k)
		}
		return nil
	})
	if s := n.Ended(ctr); s.ExitCode != 137 {
		t.Errorf("the container ended with %d", s.ExitCode)
	}
	select {
	case err := <-stopped:
		t.Errorf("Stop did not wait for the DEL: %v", err)
	default:
	}
	n.Kill9()
	<-stopped
	n.Restart() // waits for no plugin
	if out := n.CLI("pods"); out.Code != 0 {
		t.Errorf("pods: %+v", out)
	}
	n.act("hang", "")
	n.RemoveAll()
	n.taken(0)
	n.nothingLeft()
}

// TestKilledAtEachStep of the network: whatever was recorded or not, the address is free when the pod is gone.
func TestKilledAtEachStep(t *testing.T) {
	daemon := killable(t)
	n := startActor(t, options{program: daemon})
	points := []string{"sandbox/network/do/1", "sandbox/network/done/1", "sandbox/network/undo/1", "sandbox/network/undone/1"}
	for _, s := range []string{"configuration", "attachment", "plugins", "answer"} {
		points = append(points, "cni/"+s+"/do/1", "cni/"+s+"/done/1")
	}
	for _, delay := range []string{" 5ms", " 20ms", " 60ms"} { // while a plugin runs, which lives on
		points = append(points, "cni/plugins/do/1"+delay)
	}
	for _, p := range points {
		n.Stop()
		plan(t, n, "kill "+p)
		n.Restart()
		c := n.PodConfig("pod")
		r, err := n.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: c})
		if err == nil {
			_, err = n.Conn().Runtime.StopPodSandbox(daemontest.Ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: r.PodSandboxId})
		}
		if err == nil && !strings.Contains(p, " ") {
			t.Errorf("%s: the daemon did not die", p)
		}
		<-n.Exited()
		plan(t, n, "")
		n.Restart()
		if strings.Contains(p, "/und") || strings.Contains(p, " ") {
			n.RemoveAll() // it is stopped, and its record is the caller's to remove
		}
		pod := n.RunPod(c) // the name is free
		n.RemovePod(pod)
		n.RemoveAll()
		n.taken(0)
		if t.Failed() {
			t.Fatalf("killed at %s", p)
		}
	}
	n.nothingLeft()
}

// TestPluginThatMisbehaves in ADD: the pod is refused with the plugin's fault in words, and nothing of it is left; the pod
// beside it is served all the while.
func TestPluginThatMisbehaves(t *testing.T) {
	n := startActor(t, options{})
	good, ctr := n.pod("good", daemontest.Sleep, nil)
	for what, c := range map[string]struct{ taken, says string }{
		"floods":            {"cat /dev/zero", "it wrote more than it may"},
		"answers nonsense":  {"echo nonsense; exit 0", "invalid character"},
		"names no address":  {`echo '{"cniVersion":"1.0.0"}'; exit 0`, "no address for eth0"},
		"gives a neighbour": {"n=2", "which sandbox " + good + " has"},
		"fails":             {`echo '{"code":100,"msg":"no luck"}'; exit 1`, "no luck"},
	} {
		n.act("taken.ADD", c.taken)
		_, err := n.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: n.PodConfig("bad")})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), c.says) {
			t.Errorf("a plugin that %s: %v", what, err)
		}
		n.taken(1)
		r, err := n.Conn().Runtime.ListPodSandbox(daemontest.Ctx(t), &v1.ListPodSandboxRequest{})
		if err != nil || len(r.Items) != 1 {
			t.Errorf("a plugin that %s: %d pods, %v", what, len(r.GetItems()), err)
		}
		if got := n.Exec(ctr, "hostname"); got != "good" {
			t.Errorf("beside a plugin that %s: %q", what, got)
		}
	}
	n.act("taken.ADD", "")
	n.pod("bad", daemontest.Sleep, nil)
	n.RemoveAll()
	n.taken(0)
	n.nothingLeft()
}
