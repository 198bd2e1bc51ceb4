package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

func TestStartToExit(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c",
		"echo out; echo err >&2; cat /proc/self/uid_map; stat -c '%n %u' /bin /bin/busybox; touch /new; stat -c '%n %u' /new; exit 7").run()
	out := c.output(7)
	for _, want := range []string{"out\n", "err\n", fmt.Sprintf("0 %d      %d", hostID, idSize), "/bin 0\n", "/bin/busybox 0\n", "/new 0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("log lacks %q:\n%s", want, out)
		}
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(c.dir(), spec.UpperDir, "new"), &st))
	if st.Uid != hostID {
		t.Errorf("a file of the container's root has uid %d on the host", st.Uid)
	}
}

// A running container, seen from the host.
func TestRunningLeavesNoTraceInTheHostsMounts(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	before := mounts(t)
	c := p.newContainer("sleep", "1000").run()
	if after := mounts(t); !slices.Equal(after, before) {
		t.Errorf("the host's mounts were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	init := c.started().Init
	for what, ns := range map[string]struct {
		pid  int
		same bool
	}{"shim": {c.shim.PID, true}, "init": {init.PID, false}} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", ns.pid))
		must(t, err)
		ours, err := os.Readlink("/proc/self/ns/mnt")
		must(t, err)
		if (theirs == ours) != ns.same {
			t.Errorf("the %s's mount namespace is %s, the host's %s", what, theirs, ours)
		}
	}
	entries, err := os.ReadDir(h.layout.Rootfs(c.id))
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("the mount point on the host holds %v", entries)
	}
}

func TestShimAndInitAreWhereTheyBelong(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sleep", "1000").run()
	init := c.started().Init
	if pid, ok := h.launcher.Alive(h.layout, c.pod.id, c.id); !ok || pid != c.shim.PID {
		t.Errorf("the lock names %d, %v; the shim is %d", pid, ok, c.shim.PID)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.shim.PID))
	must(t, err)
	if string(comm) != "runtimed-monito\n" {
		t.Errorf("the shim is %q", comm)
	}
	for what, want := range map[string]struct {
		pid   int
		group string
	}{"shim": {c.shim.PID, c.launch.ShimCgroup}, "init": {init.PID, c.launch.CgroupPath}} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", want.pid))
		must(t, err)
		for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if f := strings.SplitN(l, ":", 3); f[2] != want.group {
				t.Errorf("the %s is in %s", what, l)
			}
		}
	}
	must(t, h.launcher.Ready(t.Context(), h.layout, c.id))
	must(t, os.Rename(c.launch.LogPath, c.launch.LogPath+".1"))
	must(t, h.launcher.ReopenLog(t.Context(), h.layout, c.id))
	if _, err := os.Stat(c.launch.LogPath); err != nil {
		t.Error(err)
	}
	must(t, unix.Kill(init.PID, unix.SIGKILL))
	if e := c.exit(); e.Code != 137 {
		t.Errorf("exit %+v", e)
	}
	h.await("the shim's end", func() bool { _, ok := h.launcher.Alive(h.layout, c.pod.id, c.id); return !ok })
	h.await("the shim to be reaped", func() bool { return len(children(t)) == 0 })
}

// Descriptors: nothing but the three streams reaches the program (CVE-2024-21626), and the monitor holds only its own.
func TestDescriptors(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c", "ls /proc/1/fd; ls -l /proc/self/fd/0; readlink /proc/1/exe; sleep 1000").run()
	h.await("output", func() bool { return strings.Contains(c.log(), "busybox") })
	out := c.log()
	if !strings.HasPrefix(out, "0\n1\n2\n") || !strings.Contains(out, "-> /dev/null") || !strings.Contains(out, "/bin/busybox") {
		t.Errorf("the program sees:\n%s", out)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.shim.PID))
	must(t, err)
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.shim.PID, fd.Name()))
		known := strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") ||
			to == "/dev/null" || to == c.launch.LogPath || to == filepath.Join(c.dir(), spec.LockFile) || to == filepath.Join(c.dir(), "."+spec.ExitFile)
		for _, kept := range []string{"memory.oom_control", "memory.events", "cgroup.kill", "cgroup.procs"} {
			known = known || filepath.Base(to) == kept
		}
		if n, _ := strconv.Atoi(fd.Name()); n < 3 && to != "/dev/null" || !known {
			t.Errorf("descriptor %s of the monitor is %s", fd.Name(), to)
		}
	}
}

// The init executes our program, and is seen by the pod's other containers where they share a PID namespace: what it
// executes cannot be written, and is not the installed file (CVE-2019-5736).
func TestInitExecutesASealedCopy(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.write(fault{Flow: "creator", Step: "leave", Phase: step.Doing, Do: "stop"})
	result := make(chan error, 1)
	go func() { result <- c.start(t.Context()) }()
	var shim int // as the lock names it: what start remembers is not this goroutine's to read yet
	h.await("the creator to stop behind the start", func() bool {
		pid, alive := h.launcher.Alive(h.layout, c.pod.id, c.id)
		shim = pid
		return alive && stopped(pid)
	})
	for _, pid := range groupPids(c.launch.CgroupPath) {
		exe := fmt.Sprintf("/proc/%d/exe", pid)
		if fd, err := unix.Open(exe, unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			t.Errorf("%s can be written", exe)
			unix.Close(fd)
		} else if err != unix.EROFS && err != unix.ETXTBSY {
			t.Errorf("%s: %v", exe, err)
		}
		var sealed, installed unix.Stat_t
		must(t, unix.Stat(exe, &sealed))
		must(t, unix.Stat(filepath.Join(built, wire.Binary), &installed))
		if sealed.Dev == installed.Dev && sealed.Ino == installed.Ino {
			t.Errorf("%s is the installed file", exe)
		}
		var fs unix.Statfs_t
		must(t, unix.Statfs(exe, &fs))
		if fs.Flags&unix.ST_RDONLY == 0 || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
			t.Errorf("%s is on a file system of type %x with flags %x", exe, fs.Type, fs.Flags)
		}
	}
	must(t, unix.Kill(shim, unix.SIGCONT))
	must(t, <-result)
	c.output(0)
}

func TestStdin(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	without := p.newContainer("sh", "-c", "cat; echo ended").run()
	if out := without.output(0); out != "ended\n" {
		t.Errorf("without stdin: %q", out)
	}
	with := p.newContainer("sh", "-c", "readlink /proc/self/fd/0; cat")
	with.launch.Stdin = true
	with.run()
	h.await("output", func() bool { return strings.HasPrefix(with.log(), "pipe:") })
}

func TestStreamsCanBeReopenedByTheirUser(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c", "id -u; echo one >/proc/self/fd/1; echo two >/proc/self/fd/2")
	c.config.Process.User = specs.User{UID: 1000, GID: 1000}
	if out := c.run().output(0); out != "1000\none\ntwo\n" {
		t.Errorf("got %q", out)
	}
}

func TestTerminal(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size; ls -l /dev/console | head -c1; ls -1 /proc/1/fd")
	c.launch.TTY, c.config.Process.Terminal = true, true
	c.config.Process.ConsoleSize = &specs.Box{Width: 123, Height: 45}
	out := strings.ReplaceAll(c.run().output(0), "\r", "")
	if !strings.HasPrefix(out, "45 123\nc0\n1\n2\n") {
		t.Errorf("got %q", out)
	}
}

func TestManyLayers(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	for _, n := range []int{1, 60, 500} {
		c := p.newContainer("sh", "-c", "cat /top; ls / | grep -c mark; cat /proc/self/mountinfo")
		for i := range n - 1 {
			chain, dir := h.layer()
			must(t, os.WriteFile(fmt.Sprintf("%s/mark%d", dir, i), nil, 0o644))
			c.launch.Layers = append(c.launch.Layers, chain)
		}
		top := h.layout.Layers() + "/" + spec.LayerDir(c.launch.Layers[n-1])
		must(t, os.WriteFile(top+"/top", []byte("highest\n"), 0o644))
		if n > 1 {
			must(t, os.WriteFile(h.layout.Layers()+"/"+spec.LayerDir(c.launch.Layers[0])+"/top", []byte("lowest\n"), 0o644))
		}
		code := 0
		out := c.run().output(code)
		if want := fmt.Sprintf("highest\n%d\n", n-1); !strings.HasPrefix(out, want) {
			t.Errorf("%d layers: got %.100q, want %q", n, out, want)
		}
		if strings.Contains(out, h.layout.Root) {
			t.Errorf("%d layers: the container sees paths of the host:\n%.300s", n, out)
		}
	}
}

func TestRootHasTheImagesMode(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("stat", "-c", "%a %u %g", "/")
	must(t, os.Chmod(h.layout.Layers()+"/"+spec.LayerDir(c.launch.Layers[0]), 0o751))
	if out := c.run().output(0); out != "751 0 0\n" {
		t.Errorf("got %q", out)
	}
}

// A container with the node's ids in a pod with a user namespace: the pod's other namespaces are still its own.
func TestHostIDsInAPodWithAUserNamespace(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	c := p.newContainer("sh", "-c", "cat /proc/self/uid_map; for n in net ipc uts; do readlink /proc/self/ns/$n; done; ls -d /dev/mqueue /sys/class/net/lo")
	c.hostIDs()
	out := c.run().output(0)
	for _, pin := range []string{h.layout.NetnsPin(p.id), h.layout.Pin(p.id, "ipc"), h.layout.Pin(p.id, "uts")} {
		var st unix.Stat_t
		must(t, unix.Stat(pin, &st))
		if !strings.Contains(out, fmt.Sprintf("[%d]", st.Ino)) {
			t.Errorf("not in the namespace of %s:\n%s", pin, out)
		}
	}
	if !strings.Contains(out, " 0          0 4294967295\n") || !strings.Contains(out, "/sys/class/net/lo") {
		t.Errorf("got:\n%s", out)
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(c.dir(), spec.UpperDir), &st))
	if st.Uid != 0 {
		t.Errorf("upper directory of uid %d", st.Uid)
	}
}

func TestPodWithoutAUserNamespace(t *testing.T) {
	h := newHost(t)
	if out := h.newPod(false).newContainer("cat", "/proc/self/uid_map").run().output(0); !strings.Contains(out, "4294967295") {
		t.Errorf("got %q", out)
	}
}

// The node's PID namespace: what the program leaves behind ends with it, since there is no init to take it along.
func TestNodePIDNamespace(t *testing.T) {
	h := newHost(t)
	c := h.newPod(false).newContainer("sh", "-c", "setsid sleep 1000 & echo $$")
	c.config.Linux.Namespaces = slices.DeleteFunc(c.config.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	if out := c.run().output(0); out != fmt.Sprintf("%d\n", c.started().Init.PID) {
		t.Errorf("the program's pid is %q, its init's %d", out, c.started().Init.PID)
	}
	h.await("an empty cgroup", func() bool { return len(groupPids(c.launch.CgroupPath)) == 0 })
}
