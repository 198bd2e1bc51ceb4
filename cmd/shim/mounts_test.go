package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// source makes a directory on the host that nobody but root may enter, as the kubelet's are.
func (h *host) source(name string) string {
	h.t.Helper()
	dir := filepath.Join(h.layout.Root, "sources", name)
	must(h.t, os.MkdirAll(dir, 0o755))
	must(h.t, os.WriteFile(filepath.Join(dir, "file"), []byte(name+"\n"), 0o644))
	return dir
}

func TestBindMounts(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	dir := h.source("dir")
	must(t, os.Symlink(dir, h.layout.Root+"/link"))
	must(t, os.Symlink("file", dir+"/linked"))
	c := p.newContainer("sh", "-c", "cat /a/file /b /c/file /d; touch /a/x 2>&1; ls -d /e")
	c.bind(dir, "/a", "ro", "rprivate")
	c.bind(dir+"/file", "/b")
	c.bind(h.layout.Root+"/link", "/c")
	c.bind(dir+"/linked", "/d")
	c.bind("/dev/null", "/e")
	if out := c.run().output(0); out != "dir\ndir\ndir\ndir\ntouch: /a/x: Read-only file system\n/e\n" {
		t.Errorf("got %q", out)
	}
}

func TestBindSourceMissing(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("true")
	c.bind(h.layout.Root+"/absent", "/a")
	c.write()
	wantStartError(t, c, `source of the mount at "/a"`, "absent: no such file or directory")
}

// The pod's /dev/shm lies below the run directory, which the cover hides.
func TestShm(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	shm := h.layout.Shm(p.id)
	must(t, os.MkdirAll(shm, 0o700))
	must(t, unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=65536,uid=%d,gid=%d", hostID, hostID)))
	defer func() { must(t, unix.Unmount(shm, 0)) }()
	write := p.newContainer("sh", "-c", "echo shared > /dev/shm/x")
	read := p.newContainer("cat", "/dev/shm/x")
	for _, c := range []*container{write, read} {
		for i, m := range c.config.Mounts {
			if m.Destination == "/dev/shm" {
				c.config.Mounts[i] = specs.Mount{Source: shm, Destination: "/dev/shm", Type: "bind", Options: []string{"rbind", "rprivate"}}
			}
		}
	}
	write.run().output(0)
	if out := read.run().output(0); out != "shared\n" {
		t.Errorf("got %q", out)
	}
}

// Volumes that are idmapped: by the pod's own maps, which takes the pod's namespace, and by others, which takes one
// that libcontainer makes.
func TestIDMappedVolume(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	tmpfs := h.layout.Root + "/tmpfs"
	must(t, os.MkdirAll(tmpfs, 0o755))
	must(t, unix.Mount("t", tmpfs, "tmpfs", 0, ""))
	defer func() { must(t, unix.Unmount(tmpfs, 0)) }()
	must(t, os.WriteFile(tmpfs+"/file", nil, 0o644))
	for name, dir := range map[string]string{"tmpfs": tmpfs, "disk": h.source("disk")} {
		for what, maps := range map[string]struct {
			ids          []specs.LinuxIDMapping
			seen, stored uint32
		}{
			"own":   {[]specs.LinuxIDMapping{{ContainerID: 0, HostID: hostID, Size: idSize}}, 0, 0},
			"other": {[]specs.LinuxIDMapping{{ContainerID: 0, HostID: hostID + 5, Size: 10}}, 5, 1},
		} {
			c := p.newContainer("sh", "-c", "stat -c %u /v/file; echo x > /v/new && stat -c %u /v/new")
			must(t, os.Chmod(dir, 0o777))
			c.config.Process.User.UID = maps.seen + maps.stored
			m := c.bind(dir, "/v", "rprivate")
			m.UIDMappings, m.GIDMappings = maps.ids, maps.ids
			if what == "other" {
				m.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: hostID, Size: 10}}
			}
			if out, want := c.run().output(0), fmt.Sprintf("%d\n%d\n", maps.seen, maps.seen+maps.stored); out != want {
				t.Errorf("%s, %s maps: got %q, want %q", name, what, out, want)
			}
			var st unix.Stat_t
			must(t, unix.Stat(dir+"/new", &st))
			if st.Uid != maps.stored {
				t.Errorf("%s, %s maps: uid %d on the host, want %d", name, what, st.Uid, maps.stored)
			}
			must(t, os.Remove(dir+"/new"))
		}
	}
}

func TestPropagation(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	dir := h.source("shared") // below a shared mount: this namespace's /
	script := "mkdir -p /v/in && mount -t tmpfs in-container /v/in && echo ready; while ! test -e /v/late/seen; do sleep 0.01; test -e /v/quit && exit 3; done; echo seen"
	for _, c := range []struct {
		option, root string
		in, out      bool // what is mounted here is seen there
	}{
		{"rshared", "rshared", true, true},
		{"rslave", "rslave", true, false},
		{"rprivate", "rprivate", false, false},
	} {
		k := p.newContainer("sh", "-c", script)
		k.hostIDs()
		k.config.Process.Capabilities.Bounding = append(k.config.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
		k.config.Process.Capabilities.Effective = k.config.Process.Capabilities.Bounding
		k.config.Process.Capabilities.Permitted = k.config.Process.Capabilities.Bounding
		k.config.Linux.RootfsPropagation = c.root
		k.bind(dir, "/v", c.option)
		k.run()
		h.await("the container's mount", func() bool { return strings.Contains(k.log(), "ready") })
		seen := false
		for _, m := range mounts(t) {
			seen = seen || m == dir+"/in"
		}
		if seen != c.out {
			t.Errorf("%s: the host sees the container's mount: %v", c.option, seen)
		}
		must(t, os.MkdirAll(dir+"/late", 0o755))
		must(t, unix.Mount("late", dir+"/late", "tmpfs", 0, ""))
		must(t, os.WriteFile(dir+"/late/seen", nil, 0o644))
		code := 0
		if !c.in {
			must(t, os.WriteFile(dir+"/quit", nil, 0o644))
			code = 3
		}
		k.output(code)
		must(t, unix.Unmount(dir+"/late", 0))
		os.Remove(dir + "/quit")
		if c.out {
			must(t, unix.Unmount(dir+"/in", 0))
		}
	}
}

// An image's content below its volumes, with owners, links and a way out.
func (h *host) volumeLayer(c *container) {
	h.t.Helper()
	chain, dir := h.layer()
	c.launch.Layers = append(c.launch.Layers, chain)
	must(h.t, os.MkdirAll(dir+"/data/sub", 0o755))
	must(h.t, os.Chmod(dir+"/data", 0o777|os.ModeSticky))
	must(h.t, os.WriteFile(dir+"/data/sub/file", []byte("from the image\n"), 0o644))
	must(h.t, os.Chown(dir+"/data/sub/file", 33, 34))
	must(h.t, unix.Lsetxattr(dir+"/data/sub/file", "user.mark", []byte("kept"), 0))
	must(h.t, os.Link(dir+"/data/sub/file", dir+"/data/hard"))
	must(h.t, os.Symlink("/etc/passwd", dir+"/data/soft"))
	must(h.t, unix.Mknod(dir+"/data/fifo", unix.S_IFIFO|0o644, 0))
	must(h.t, unix.Mknod(dir+"/data/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(h.t, os.WriteFile(dir+"/plain", nil, 0o644))
	must(h.t, os.Symlink("/../../../../data", dir+"/escape"))
	must(h.t, os.Symlink("/proc/self/root", dir+"/magic"))
}

func TestImageVolumes(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c", `
cat /data/sub/file /data/below/file; ls -A /absent /data | sort | tr '\n' ' '
stat -c '%a %u %g %n' /data /data/sub/file /absent; stat -c '%h' /data/hard; readlink /data/soft
echo w > /data/w && echo w > /absent/w; touch /etc/x; echo end`)
	h.volumeLayer(c)
	c.config.Root.Readonly = true
	c.launch.Volumes = []string{"/data", "/absent"}
	must(t, os.WriteFile(h.layout.Layers()+"/"+spec.LayerDir(c.launch.Layers[1])+"/below-is-a-mount", nil, 0o644))
	c.bind(h.source("below"), "/data/below", "rprivate")
	out := c.run().output(0)
	for _, want := range []string{
		"from the image\nbelow\n", "below fifo hard soft sub ", "1777 0 0 /data\n", "644 33 34 /data/sub/file\n",
		"755 0 0 /absent\n", "\n2\n/etc/passwd\n", "touch: /etc/x: Read-only file system\nend\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("log lacks %q:\n%s", want, out)
		}
	}
	value := make([]byte, 10)
	n, err := unix.Getxattr(filepath.Join(c.dir(), spec.VolumesDir, "1", "sub/file"), "user.mark", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("extended attribute %q, %v", value[:n], err)
	}
	// The image itself is as it was.
	if _, err := os.Stat(h.layout.Layers() + "/" + spec.LayerDir(c.launch.Layers[1]) + "/data/w"); !os.IsNotExist(err) {
		t.Errorf("the volume wrote into the layer: %v", err)
	}
}

// A volume behind symbolic links is the image's own directory, wherever else the links could lead.
func TestImageVolumeBehindLinks(t *testing.T) {
	h := newHost(t)
	c := h.newPod(true).newContainer("sh", "-c", "cat /escape/sub/file; echo x > /data/w")
	h.volumeLayer(c)
	c.launch.Volumes = []string{"/escape"}
	if out := c.run().output(0); out != "from the image\n" {
		t.Errorf("got %q", out)
	}
	if _, err := os.Stat(filepath.Join(c.dir(), spec.VolumesDir, "0/w")); err != nil {
		t.Error(err)
	}
}

func TestImageVolumesRefused(t *testing.T) {
	h := newHost(t)
	p := h.newPod(true)
	for volume, want := range map[string]string{
		"/plain": "a file in the image", "/": "not a clean absolute path", "/a/../b": "not a clean absolute path",
		"a": "not a clean absolute path", "/magic": "too many levels",
	} {
		c := p.newContainer("true")
		h.volumeLayer(c)
		c.launch.Volumes = []string{volume}
		// /magic: the root file system has no proc yet, so it must be made to look as if it had.
		if volume == "/magic" {
			dir := h.layout.Layers() + "/" + spec.LayerDir(c.launch.Layers[1])
			must(t, os.MkdirAll(dir+"/proc/self", 0o755))
			must(t, os.Symlink("/magic", dir+"/proc/self/root"))
		}
		c.write()
		wantStartError(t, c, volume, want)
	}
}
