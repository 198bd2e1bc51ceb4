//go:build kubelet

package kubelet

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/integration/daemontest"
)

const (
	nodeName = "node"
	nodeIP   = "192.0.2.10"
	rootDir  = "/var/lib/kubelet"
	podLogs  = "/var/log/pods"
	port     = 10250
)

// node is a kubelet on a daemon. Both may be killed and started again.
type node struct {
	*daemontest.Daemon
	t         *testing.T
	dir       string
	manifests string
	// evented has the kubelet take the runtime's events. One of v1.37.2 that does starts the first init container of a pod
	// again and again: GeneratePodStatus leaves ActiveContainerStatuses empty, with any runtime.
	evented bool
	process *os.Process
	exited  chan struct{}
	http    http.Client
}

func newNode(t *testing.T, d *daemontest.Daemon) *node {
	t.Helper()
	n := &node{Daemon: d, t: t, dir: d.Dir + "/kubelet", manifests: d.Dir + "/manifests"}
	n.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it signs for itself
	for _, dir := range []string{n.dir, n.dir + "/root", n.dir + "/log", n.manifests, rootDir} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	// Paths that the kubelet has compiled in.
	must(t, unix.Mount(n.dir+"/root", rootDir, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", rootDir, "", unix.MS_SHARED, ""))
	must(t, unix.Mount(n.dir+"/log", "/var/log", "", unix.MS_BIND, ""))
	for _, args := range []string{
		"link add node0 type bridge", "addr add " + nodeIP + "/24 dev node0", "link set node0 up", "route add default via 192.0.2.1 dev node0",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(n.end)
	n.start()
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) config() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: %d
healthzPort: 0
staticPodPath: %s
containerRuntimeEndpoint: unix://%s
cgroupRoot: %s
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
registerNode: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
fileCheckFrequency: 1s
syncFrequency: 5s
containerLogMaxSize: 1Mi
containerLogMaxFiles: 5
containerLogMonitorInterval: 3s
imageMinimumGCAge: 1s
imageGCHighThresholdPercent: 2
imageGCLowThresholdPercent: 1
evictionHard: {memory.available: 1Mi, nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%"}
shutdownGracePeriod: 0s
crashLoopBackOff: {maxContainerRestartPeriod: 4s}
featureGates: {EventedPLEG: %t, PodAndContainerStatsFromCRI: true, KubeletCrashLoopBackOffMax: true}
`, port, n.manifests, n.Layout.Socket(), n.CgroupRoot+"-kube", n.evented)
}

// shield covers the settings of the whole machine that a kubelet writes, for it alone: in the daemon's mount namespace it
// would keep user namespaces from mounting a proc of their own (mount_namespaces(7), locked mounts).
const shield = `for f in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	echo 0 > "$0/setting"
	mount --bind "$0/setting" "/proc/sys/$f"
done
exec "$@"`

// start starts the kubelet and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	for _, root := range daemontest.Hierarchies() {
		must(n.t, os.MkdirAll(root+n.CgroupRoot+"-kube", 0o755))
	}
	must(n.t, os.WriteFile(n.dir+"/config.yaml", []byte(n.config()), 0o644))
	log, err := os.OpenFile(n.dir+"/kubelet.log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(n.t, err)
	defer log.Close()
	cmd := exec.Command("unshare", "--mount", "--propagation=unchanged", "sh", "-euc", shield, n.dir,
		os.Getenv("RUNTIMED_KUBELET"), "--config="+n.dir+"/config.yaml", "--root-dir="+rootDir,
		"--hostname-override="+nodeName, "--node-ip="+nodeIP, "--v=2")
	cmd.Stdout, cmd.Stderr = log, log
	must(n.t, cmd.Start())
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	n.process, n.exited = cmd.Process, exited
	daemontest.Eventually(n.t, time.Minute, func() error {
		select {
		case <-exited:
			n.t.Fatalf("the kubelet ended: %s", n.tail(40))
		default:
		}
		_, err := n.get("/pods")
		return err
	})
}

func (n *node) kill() {
	n.process.Kill()
	<-n.exited
}

func (n *node) end() {
	n.kill()
	if n.t.Failed() {
		n.t.Logf("kubelet:\n%s", n.tail(60))
	}
	if keep := os.Getenv("RUNTIMED_KUBELET_LOG"); keep != "" {
		body, _ := os.ReadFile(n.dir + "/kubelet.log")
		os.WriteFile(keep, body, 0o644)
		body, _ = os.ReadFile(n.LogFile)
		os.WriteFile(keep+".runtimed", body, 0o644)
	}
	n.RemoveAll()
	exec.Command("ip", "link", "del", "node0").Run()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		at := strings.Fields(lines[i])[1]
		if strings.HasPrefix(at, rootDir) || at == "/var/log" {
			unix.Unmount(at, unix.MNT_DETACH)
		}
	}
}

func (n *node) tail(lines int) string {
	body, _ := os.ReadFile(n.dir + "/kubelet.log")
	all := strings.Split(strings.TrimSpace(string(body)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// get asks the kubelet's server.
func (n *node) get(path string) (string, error) { return n.ask(http.MethodGet, path) }

func (n *node) ask(method, path string) (string, error) {
	r, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return "", err
	}
	answer, err := n.http.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, body)
	}
	return string(body), err
}

// run is the kubelet's own exec, which is ExecSync.
func (n *node) run(pod, container, command string) string {
	n.t.Helper()
	out, err := n.ask(http.MethodPost, fmt.Sprintf("/run/default/%s-%s/%s?cmd=%s", pod, nodeName, container, url.QueryEscape(command)))
	must(n.t, err)
	return out
}

// status is what the kubelet would report of a pod.
type status struct {
	Phase      string
	PodIP      string
	Conditions []struct{ Type, Status string }
	Containers []containerStatus `json:"containerStatuses"`
	Init       []containerStatus `json:"initContainerStatuses"`
}

type containerStatus struct {
	Name         string
	Ready        bool
	RestartCount int
	ContainerID  string
	State, Last  containerState
	LastState    containerState
}

type containerState struct {
	Running    *struct{ StartedAt string }
	Waiting    *struct{ Reason, Message string }
	Terminated *struct {
		ExitCode        int
		Reason, Message string
	}
}

func (c containerStatus) id() string {
	_, id, _ := strings.Cut(c.ContainerID, "://")
	return id
}

func (s status) container(name string) containerStatus {
	for _, c := range append(s.Containers, s.Init...) {
		if c.Name == name {
			return c
		}
	}
	return containerStatus{}
}

func (s status) ready() bool {
	for _, c := range s.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// pod returns nil where the kubelet knows of none.
func (n *node) pod(name string) (*status, error) {
	body, err := n.get("/pods")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   status
		}
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return nil, err
	}
	for _, p := range list.Items {
		if p.Metadata.Name == name+"-"+nodeName {
			return &p.Status, nil
		}
	}
	return nil, nil
}

// apply writes a static pod's manifest; spec is YAML below spec:, indented by two.
func (n *node) apply(name, spec string) {
	n.t.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default, labels: {app: %s}}\nspec:\n%s", name, name, spec)
	text = strings.NewReplacer("BUSYBOX", n.Image, "AGNHOST", n.Registry.Ref("agnhost:1"), "DIR", n.Dir).Replace(text)
	must(n.t, os.WriteFile(filepath.Join(n.manifests, "."+name), []byte(text), 0o644))
	must(n.t, os.Rename(filepath.Join(n.manifests, "."+name), filepath.Join(n.manifests, name+".yaml")))
}

// await waits until the pod is as asked, and returns its status.
func (n *node) await(name, what string, is func(status) bool) status {
	n.t.Helper()
	var last status
	daemontest.Eventually(n.t, 2*time.Minute, func() error {
		p, err := n.pod(name)
		if err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("the kubelet knows no pod %s", name)
		}
		if last = *p; !is(last) {
			text, _ := json.Marshal(last)
			return fmt.Errorf("pod %s: waiting for %s: %s", name, what, text)
		}
		return nil
	})
	return last
}

func (n *node) ready(name string) status {
	n.t.Helper()
	return n.await(name, "Ready", status.ready)
}

// remove takes the manifest away and waits until the runtime has nothing of the pod.
func (n *node) remove(name string) {
	n.t.Helper()
	must(n.t, os.Remove(filepath.Join(n.manifests, name+".yaml")))
	daemontest.Eventually(n.t, 2*time.Minute, func() error {
		p, err := n.pod(name)
		if err != nil {
			return err
		}
		if p != nil {
			return fmt.Errorf("the kubelet still has pod %s", name)
		}
		if out := n.Crictl("pods", "-q", "--name", name+"-"+nodeName, "--state", "ready"); strings.TrimSpace(out.Stdout) != "" {
			return fmt.Errorf("the sandbox of %s is still ready", name)
		}
		return nil
	})
}
