package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	hostID = 0x50000000 // first id of the test pods' range
	idSize = 65536
)

// patience is far above what anything here takes: it only ends a test that hangs.
const patience = 30 * time.Second

// host is a node: directories, a launcher and a cgroup of the test's own.
type host struct {
	t        *testing.T
	layout   spec.Layout
	groups   string // cgroup path that holds all groups of the test
	launcher *launch.Launcher
}

func newHost(t *testing.T) *host {
	t.Helper()
	base, err := os.MkdirTemp("", "runtimed-test-host-")
	must(t, err)
	must(t, os.Chmod(base, 0o711))
	h := &host{
		t: t, layout: spec.Layout{Root: base + "/root", Run: base + "/run", Netns: base + "/netns"},
		groups: "/runtimed-test-" + newID()[:16],
	}
	for _, d := range []string{h.layout.Layers(), h.layout.Run + "/shims", h.layout.Netns} {
		must(t, os.MkdirAll(d, 0o700))
	}
	must(t, unix.Mount(h.layout.Run, h.layout.Run, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", h.layout.Run, "", unix.MS_PRIVATE, ""))
	h.launcher, err = launch.New(launch.Options{Program: filepath.Join(built, wire.Binary), Groups: h})
	must(t, err)
	t.Cleanup(func() {
		must(t, h.Remove(context.Background(), h.groups))
		h.launcher.Close()
		h.await("the run directory to be free", func() bool { // a killed shim leaves its group before it has closed its socket
			err := unix.Unmount(h.layout.Run, 0)
			if !errors.Is(err, unix.EBUSY) {
				must(t, err)
			}
			return err == nil
		})
		must(t, os.RemoveAll(base))
		for _, m := range mounts(t) {
			if strings.HasPrefix(m, base) {
				t.Errorf("mount %s stays", m)
			}
		}
	})
	return h
}

// groupDirs are the places of a cgroup path in all hierarchies.
func groupDirs(path string) []string {
	if cgroups.IsCgroup2UnifiedMode() {
		return []string{filepath.Join("/sys/fs/cgroup", path)}
	}
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	var dirs []string
	for _, r := range roots {
		if info, err := os.Lstat(r); err == nil && info.IsDir() {
			dirs = append(dirs, filepath.Join(r, path))
		}
	}
	return dirs
}

// groupPids are the processes below a cgroup path, in any hierarchy.
func groupPids(path string) []int {
	var all []int
	for _, d := range groupDirs(path) {
		pids, _ := cgroups.GetAllPids(d)
		all = append(all, pids...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Below names the groups below a path.
func (h *host) Below(path string) (names []string, err error) {
	for _, d := range groupDirs(path) {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// Remove is what the daemon's cgroup undo does: kill all, then remove, leaves first.
func (h *host) Remove(_ context.Context, path string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pids := groupPids(path)
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of %s do not end", pids, path)
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		for _, d := range groupDirs(path) {
			thaw(d)
		}
	}
	for _, d := range groupDirs(path) {
		if err := cgroups.RemovePath(d); err != nil {
			return err
		}
	}
	return nil
}

func thaw(dir string) {
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.Name() == "freezer.state" {
			os.WriteFile(p, []byte("THAWED"), 0)
		}
		return nil
	})
}

// layer unpacks a layer: it returns its chain id and its directory.
func (h *host) layer() (chain, dir string) {
	h.t.Helper()
	id := newID()
	dir = filepath.Join(h.layout.Layers(), id)
	must(h.t, os.Mkdir(dir, 0o755))
	return "sha256:" + id, dir
}

// busybox is a layer with a static busybox.
func (h *host) busybox() string {
	h.t.Helper()
	chain, dir := h.layer()
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		must(h.t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(h.t, exec.Command("cp", "/bin/busybox", dir+"/bin/busybox").Run())
	for _, a := range strings.Fields("sh ls cat id sleep touch grep stat mount umount mkdir head yes setsid readlink wc true echo dd stty kill chmod find ln pwd test hostname nproc seq sort tr tty") {
		must(h.t, os.Symlink("busybox", filepath.Join(dir, "bin", a)))
	}
	return chain
}

// pod is a sandbox's record directory and pinned namespaces.
type pod struct {
	*host
	id   string
	user bool
}

// newPod pins a user (if wanted), net, ipc and uts namespace, made by one short-lived process.
func (h *host) newPod(user bool) *pod {
	h.t.Helper()
	p := &pod{host: h, id: newID(), user: user}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostID, Size: idSize}}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	pins := map[string]string{"ipc": h.layout.Pin(p.id, "ipc"), "uts": h.layout.Pin(p.id, "uts"), "net": h.layout.NetnsPin(p.id)}
	if user {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings, attr.GidMappings = ids, ids
		pins["user"] = h.layout.Pin(p.id, "user")
	}
	holder := exec.Command("/bin/busybox", "cat")
	holder.SysProcAttr = attr
	in, err := holder.StdinPipe()
	must(h.t, err)
	must(h.t, holder.Start())
	for kind, pin := range pins {
		must(h.t, os.MkdirAll(filepath.Dir(pin), 0o700))
		must(h.t, os.WriteFile(pin, nil, 0o600))
		must(h.t, unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", holder.Process.Pid, kind), pin, "", unix.MS_BIND, ""))
	}
	in.Close()
	holder.Wait()
	must(h.t, os.MkdirAll(h.layout.Sandbox(p.id), 0o700))
	h.t.Cleanup(func() {
		must(h.t, h.Remove(context.Background(), h.groups)) // what still runs holds the pins
		for _, pin := range pins {
			must(h.t, unix.Unmount(pin, 0))
		}
	})
	return p
}

// container is what is asked of one container.
type container struct {
	*pod
	id     string
	launch spec.Launch
	config *specs.Spec
	shim   spec.Process
}

// newContainer writes nothing yet: tests change launch and config first.
func (p *pod) newContainer(args ...string) *container {
	p.t.Helper()
	c := &container{pod: p, id: newID()}
	c.launch = spec.Launch{
		Version: spec.RecordVersion, SandboxID: p.id, ContainerID: c.id, Layout: p.layout, Layers: []string{p.busybox()},
		LogPath: filepath.Join(p.layout.Sandbox(p.id), c.id+".log"), CgroupPath: p.groups + "/" + c.id, ShimCgroup: p.groups + "/shims",
	}
	s := specconv.Example()
	s.Root = &specs.Root{Path: p.layout.Rootfs(c.id)}
	s.Hostname = ""
	s.Process.Terminal, s.Process.Rlimits, s.Process.Args = false, nil, args
	s.Process.Env = []string{"PATH=/bin", "MARK=from config"}
	s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	s.Linux.CgroupsPath = c.launch.CgroupPath
	s.Linux.Namespaces = []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
		{Type: specs.NetworkNamespace, Path: p.layout.NetnsPin(p.id)},
		{Type: specs.IPCNamespace, Path: p.layout.Pin(p.id, "ipc")}, {Type: specs.UTSNamespace, Path: p.layout.Pin(p.id, "uts")},
	}
	if p.user {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: hostID, Size: idSize}}
		s.Linux.GIDMappings = s.Linux.UIDMappings
		c.launch.UserNamespace = p.layout.Pin(p.id, "user")
	}
	c.config = s
	return c
}

// hostIDs takes the container out of the pod's user namespace.
func (c *container) hostIDs() {
	c.launch.UserNamespace = ""
	c.config.Linux.UIDMappings, c.config.Linux.GIDMappings = nil, nil
	c.config.Linux.Namespaces = slices.DeleteFunc(c.config.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.UserNamespace
	})
}

// bind adds a bind mount.
func (c *container) bind(from, to string, options ...string) *specs.Mount {
	c.config.Mounts = append(c.config.Mounts, specs.Mount{Source: from, Destination: to, Type: "bind", Options: append([]string{"rbind"}, options...)})
	return &c.config.Mounts[len(c.config.Mounts)-1]
}

func (c *container) dir() string { return c.layout.Container(c.pod.id, c.id) }

// write writes the record.
func (c *container) write(faults ...fault) {
	c.t.Helper()
	must(c.t, os.MkdirAll(c.dir(), 0o700))
	c.writeJSON(spec.LaunchFile, c.launch)
	c.writeJSON(spec.ConfigFile, c.config)
	if len(faults) > 0 {
		c.writeJSON(faultFile, faults)
	}
}

func (c *container) writeJSON(name string, v any) {
	c.t.Helper()
	b, err := json.Marshal(v)
	must(c.t, err)
	must(c.t, os.WriteFile(filepath.Join(c.dir(), name), b, 0o600))
}

// start starts the container, as the daemon does.
func (c *container) start(ctx context.Context) error {
	return c.launcher.Start(ctx, c.launch, func(p spec.Process) error {
		c.shim = p
		return nil
	})
}

// run writes the record and starts; the test ends when that fails.
func (c *container) run() *container {
	c.t.Helper()
	c.write()
	must(c.t, c.start(c.t.Context()))
	return c
}

// exit waits for the end.
func (c *container) exit() spec.Exit {
	c.t.Helper()
	var e spec.Exit
	c.await("exit.json", func() bool {
		b, err := os.ReadFile(filepath.Join(c.dir(), spec.ExitFile))
		if errors.Is(err, os.ErrNotExist) {
			return false
		}
		must(c.t, err)
		must(c.t, json.Unmarshal(b, &e))
		return true
	})
	return e
}

func (c *container) started() spec.Started {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir(), spec.StartedFile))
	must(c.t, err)
	var s spec.Started
	must(c.t, json.Unmarshal(b, &s))
	return s
}

// output runs to the end and returns what the log says, without its prefixes; the exit code must be as given.
func (c *container) output(code int) string {
	c.t.Helper()
	e := c.exit()
	out := c.log()
	if e.Code != code {
		c.t.Fatalf("exit %+v, want code %d; log:\n%s", e, code, out)
	}
	return out
}

// log is the log's content, without time, stream and tag.
func (c *container) log() string {
	c.t.Helper()
	b, err := os.ReadFile(c.launch.LogPath)
	must(c.t, err)
	var out strings.Builder
	for _, line := range strings.SplitAfter(string(b), "\n") {
		if f := strings.SplitN(line, " ", 4); len(f) == 4 {
			out.WriteString(f[3])
		}
	}
	return out.String()
}

func (c *container) exec(timeout time.Duration, args ...string) (spec.ExecResult, error) {
	return c.launcher.Exec(c.t.Context(), c.launch, spec.ExecProfile{}, spec.ExecRequest{ContainerID: c.id, Command: args, Timeout: timeout})
}

func (h *host) await(what string, done func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: did not come", what)
		}
	}
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
