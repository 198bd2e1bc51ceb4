package cni

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) {
	if os.Getenv("RUNTIMED_TEST_STAGE") == "tests" { // what plugins keep is not this machine's
		if err := keepApart("/var/lib/cni"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(daemontest.Main(m))
}

func keepApart(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Mount("tests", dir, "tmpfs", 0, "mode=0755")
}

// debian and current are the directories of plugins.
const debian = "/usr/lib/cni"

func current(t *testing.T) string {
	t.Helper()
	if os.Getenv(daemontest.ReadyBin) == "" {
		if out, err := exec.Command("make", "-s", "-C", daemontest.Tree(), ".cache/bin/cni/bridge").CombinedOutput(); err != nil {
			t.Fatalf("make .cache/bin/cni/bridge: %v\n%s", err, out)
		}
	}
	return filepath.Join(daemontest.Tree(), ".cache/bin/cni")
}

// node is a daemon with a directory of configurations.
type node struct {
	*daemontest.Daemon
	conf, bin string // directories of its own
	t         *testing.T
}

// options of a node.
type options struct {
	plugins string // directory behind the node's own
	keys    string // more of [network.cni]
	files   map[string]string
	netns   string // name, "" for the test's own
	program string // started as the daemon; "" is the product's
	env     []string
}

// start makes a node; its files whose names have an extension are configurations, the others plugins.
func start(t *testing.T, o options) *node {
	t.Helper()
	n := &node{conf: t.TempDir(), bin: t.TempDir(), t: t}
	for name, text := range o.files {
		n.put(name, text)
	}
	d := daemontest.Options{Network: `mode = "cni"`, Program: o.program, Env: o.env, NoStart: o.netns != ""}
	dirs := fmt.Sprintf("%q", n.bin)
	if o.plugins != "" {
		dirs += fmt.Sprintf(", %q", o.plugins)
	}
	d.Config = fmt.Sprintf("[network.cni]\nconf_dir = %q\nbin_dirs = [%s]\n%s\n", n.conf, dirs, o.keys)
	if o.netns != "" {
		d.Program = n.put("daemon", fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/run/netns/%s -- %s/runtimed \"$@\"\n", o.netns, daemontest.Bin(t)))
	}
	inNetns(t, o.netns, func() { n.Daemon = daemontest.Start(t, d) })
	if o.netns != "" {
		n.Restart()
	}
	return n
}

// put writes a file at once, so that nobody reads half of it, and returns its path.
func (n *node) put(name, text string) string {
	n.t.Helper()
	dir, mode := n.bin, os.FileMode(0o755)
	if filepath.Ext(name) != "" {
		dir, mode = n.conf, 0o644
	}
	path := filepath.Join(dir, name)
	err := os.WriteFile(path+"~", []byte(text), mode)
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return path
}

// inNetns calls f on a thread in the namespace; sockets that it opens stay there.
func inNetns(t *testing.T, name string, f func()) {
	t.Helper()
	if name == "" {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	other, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := netns.Set(other); err != nil {
		t.Fatal(err)
	}
	defer netns.Set(own)
	f()
}

// ready waits until the network is, and unready until it says every part.
func (n *node) ready() { n.t.Helper(); n.condition(true) }

func (n *node) condition(ok bool, parts ...string) {
	n.t.Helper()
	daemontest.Eventually(n.t, daemontest.Patience, func() error {
		r, err := n.Conn().Runtime.Status(daemontest.Ctx(n.t), &v1.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range r.Status.Conditions {
			if c.Type != "NetworkReady" {
				continue
			}
			for _, p := range parts {
				if !strings.Contains(c.Message, p) {
					return fmt.Errorf("NetworkReady says %q, not %q", c.Message, p)
				}
			}
			if c.Status == ok {
				return nil
			}
			return fmt.Errorf("NetworkReady is %v: %s: %s", c.Status, c.Reason, c.Message)
		}
		return fmt.Errorf("no NetworkReady")
	})
}

// addresses of a pod.
func (n *node) address(pod string) string {
	n.t.Helper()
	r, err := n.Conn().Runtime.PodSandboxStatus(daemontest.Ctx(n.t), &v1.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Status.GetNetwork().GetIp()
}

// pod runs a pod with one container, and returns both ids.
func (n *node) pod(name, script string, change func(*v1.PodSandboxConfig)) (pod, ctr string) {
	n.t.Helper()
	p := n.PodConfig(name)
	if change != nil {
		change(p)
	}
	pod = n.RunPod(p)
	return pod, n.RunContainer(pod, p, n.ContainerConfig("main", script))
}

// web is a program that serves /etc on port 80.
const web = "exec httpd -f -p 80 -h /etc"

// nothingLeft fails where host-local has an address, or the daemon's directory an attachment.
func (n *node) nothingLeft() {
	n.t.Helper()
	for _, dir := range []string{"/var/lib/cni/networks", filepath.Join(n.Layout.Root, "cni")} {
		filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
			if name := filepath.Base(path); err == nil && !st.IsDir() && name != "lock" && !strings.HasPrefix(name, "last_reserved_ip") && name != "podcidrs.json" {
				n.t.Errorf("%s is left", path)
			}
			return nil
		})
	}
	if out := n.CLI("doctor", "--leaks"); out.Code != 0 {
		n.t.Errorf("doctor --leaks: %s%s", out.Stdout, out.Stderr)
	}
}

// sh runs a script on a node.
func sh(t *testing.T, netns, script string, env ...string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-euc", script)
	if netns != "" {
		cmd = exec.Command("nsenter", "--net=/run/netns/"+netns, "--", "/bin/sh", "-euc", script)
	}
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

var block = regexp.MustCompile("(?s)<!-- example (\\w+): (\\S+) -->\n```\\w*\n(.*?)```\n")

// example returns the blocks of an example of docs/cni.md, by name.
func example(t *testing.T, name string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(daemontest.Tree(), "docs/cni.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range block.FindAllStringSubmatch(string(b), -1) {
		if m[1] == name {
			out[m[2]] = m[3]
		}
	}
	if len(out) == 0 {
		t.Fatalf("docs/cni.md has no example %s", name)
	}
	return out
}

// killable is the daemon of the tests' own main, which dies where the file plan beside its configuration says.
func killable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-tags=seccomp,netgo,osusergo", "-ldflags", `-s -w -linkmode external -extldflags "-static"`,
		"-o", dir+"/daemon", "./integration/killmain/daemon")
	cmd.Dir, cmd.Env = daemontest.Tree(), append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	script := fmt.Sprintf("#!/bin/sh\nRUNTIMED_TEST_PLAN=$(cat \"${2%%/*}/plan\" 2>/dev/null) exec %s/daemon \"$2\"\n", dir)
	if err := os.WriteFile(dir+"/start", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/start"
}

func plan(t *testing.T, n *node, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(n.ConfigFile), "plan"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
