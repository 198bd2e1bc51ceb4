package policy

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

// content is an image that no program runs from: two layers, the upper of which hides a file of the lower, and links
// that would lead out of it.
var content = registrytest.Image{Layers: []registrytest.Layer{
	{Files: []registrytest.File{
		{Name: "data/", Mode: 0o755}, {Name: "data/kept", Mode: 0o644, Body: []byte("kept\n")}, {Name: "data/gone", Mode: 0o644, Body: []byte("gone\n")},
		{Name: "tool", Mode: 0o4755, Body: []byte("#!/bin/sh\necho ran\n")}, {Name: "own", Mode: 0o600, UID: 1000, GID: 1000, Body: []byte("of 1000\n")},
		{Name: "etc/", Mode: 0o755}, {Name: "etc/shadow", Mode: 0o644, Body: []byte("the image's\n")},
	}},
	{Files: []registrytest.File{
		{Name: "data/.wh.gone"}, {Name: "data/upper", Mode: 0o644, Body: []byte("upper\n")},
		{Name: "inside", Link: "/data"}, {Name: "out", Link: "../../../../../../etc"}, {Name: "root", Link: "/proc/1/root"}, {Name: "loop", Link: "loop"},
	}},
}}

// pullContent puts the image into the daemon's store.
func pullContent(t *testing.T, d *daemontest.Daemon) string {
	t.Helper()
	d.Registry.MustPush(t, "content:1", content)
	r, err := d.Conn().Images.PullImage(daemontest.Ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: d.Registry.Ref("content:1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.RemoveAll()
		if _, err := d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: r.ImageRef}}); err != nil {
			t.Error(err)
		}
	})
	return r.ImageRef
}

func imageMount(image, sub string, options ...string) *v1.Mount {
	return &v1.Mount{
		ContainerPath: "/img", Image: &v1.ImageSpec{Image: image, UserSpecifiedImage: "content:1"}, ImageSubPath: sub, Readonly: true, MountOptions: options,
	}
}

func TestImageMounts(t *testing.T) {
	d := started(t, "")
	image := pullContent(t, d)
	p := d.PodConfig("images")
	pod := d.RunPod(p)
	run := func(name, script string, m ...*v1.Mount) string {
		t.Helper()
		c := d.ContainerConfig(name, script)
		c.Mounts = m
		got, s := output(t, d, pod, p, c)
		if s.ExitCode != 0 {
			t.Errorf("%s ended with %d: %s", name, s.ExitCode, got)
		}
		return got
	}
	for name, c := range map[string]struct {
		mount        *v1.Mount
		script, want string
	}{
		"whole":      {imageMount(image, ""), "cat /img/data/kept /img/data/upper; ls /img/data; stat -c %u:%g /img/own /img/data", "kept\nupper\nkept\nupper\n1000:1000\n0:0"},
		"directory":  {imageMount(image, "data"), "ls /img", "kept\nupper"},
		"file":       {imageMount(image, "data/kept"), "cat /img", "kept"},
		"link":       {imageMount(image, "inside"), "ls /img", "kept\nupper"},
		"link's end": {imageMount(image, "out"), "cat /img/shadow", "the image's"},
		"read-only":  {imageMount(image, ""), "touch /img/new 2>/dev/null || echo no; echo x 2>/dev/null >/img/data/kept || echo no", "no\nno"},
		"runs":       {imageMount(image, ""), "/img/tool; grep -o ' /img ro,nosuid,nodev,relatime ' /proc/self/mountinfo", "ran\n /img ro,nosuid,nodev,relatime"},
		"noexec":     {imageMount(image, "", "noexec"), "/img/tool 2>/dev/null || echo no", "no"},
	} {
		if got := run(strings.ReplaceAll(name, "'", ""), c.script, c.mount); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Two at once, one of them below a volume of the node.
	host := filepath.Join(d.Dir, "volume")
	sh(t, "mkdir -p "+host+"/deep && chmod 755 "+host)
	t.Cleanup(func() { os.RemoveAll(host) })
	below := imageMount(image, "data")
	below.ContainerPath = "/vol/deep"
	if got := run("two", "ls /vol/deep; cat /img", &v1.Mount{HostPath: host, ContainerPath: "/vol"}, below, imageMount(image, "data/upper")); got != "kept\nupper\nupper" {
		t.Errorf("two images: %q", got)
	}
	for name, c := range map[string]struct {
		mount *v1.Mount
		code  codes.Code
		says  string
	}{
		"missing path":     {imageMount(image, "data/gone"), codes.NotFound, "ImageVolumeMountFailed: mounts[0]"},
		"loop of links":    {imageMount(image, "loop"), codes.FailedPrecondition, "ImageVolumeMountFailed: mounts[0]"},
		"the node's files": {imageMount(image, "root/etc"), codes.NotFound, "ImageVolumeMountFailed: mounts[0]"},
		"no such image":    {imageMount(d.Registry.Ref("nowhere:1"), ""), codes.NotFound, "ImageVolumeMountFailed: mounts[0]"},
	} {
		c2 := d.ContainerConfig("refused", "true")
		c2.Mounts = []*v1.Mount{c.mount}
		t.Run(name, func(t *testing.T) { refused(t, d, pod, c2, c.code, c.says) })
	}
}

// An image that is only mounted is kept like one that is run, over a restart too, and its status says what was asked.
func TestImageMountKeepsTheImage(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Config: cri})
	d.Pull()
	image := pullContent(t, d)
	p := d.PodConfig("keeps")
	p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: v1.NamespaceMode_NODE}
	pod := d.RunPod(p)
	c := d.ContainerConfig("main", daemontest.Sleep)
	c.Mounts = []*v1.Mount{imageMount(image, "data", "nosuid")}
	id := d.RunContainer(pod, p, c)
	late := d.ContainerConfig("late", "cat /img/kept")
	late.Mounts = c.Mounts
	created := d.Create(pod, p, late)
	if _, err := d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image}}); err != nil {
		t.Logf("removal of an image in use: %v", err)
	}
	d.Kill9()
	d.Restart()
	if got := d.Exec(id, "cat /img/kept; echo 3 >/proc/sys/vm/drop_caches 2>/dev/null; cat /img/upper"); got != "kept\nupper" {
		t.Errorf("a mounted image lost its files: %q", got)
	}
	d.StartContainer(created)
	if s := d.Ended(created); s.ExitCode != 0 {
		t.Errorf("a container whose mounted image was removed behind its creation: %+v", s)
	}
	m := d.Status(id).Mounts
	if len(m) != 1 || m[0].GetImage().GetImage() != image || m[0].GetImage().GetUserSpecifiedImage() != "content:1" || m[0].ImageSubPath != "data" ||
		len(m[0].MountOptions) != 1 || m[0].HostPath != "" || !m[0].Readonly {
		t.Errorf("its status says %v", m)
	}
	d.RemoveAll()
	d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: d.Image}})
	daemontest.Eventually(t, 10*time.Second, func() error {
		if left, _ := os.ReadDir(d.Layout.Layers()); len(left) > 0 {
			return fmt.Errorf("%d layers are left", len(left))
		}
		return nil
	})
}

// Options and read-only hold for what is mounted below a volume too; a link that is exchanged is not followed.
func TestMountOptions(t *testing.T) {
	d := started(t, "")
	host := filepath.Join(d.Dir, "options")
	sh(t, "mkdir -p "+host+"/sub && mount -t tmpfs -o mode=755 x "+host+"/sub && cp $(which busybox) "+host+"/echo && cp $(which busybox) "+host+"/sub/echo && chmod 4755 "+host+"/echo "+host+"/sub/echo")
	t.Cleanup(func() {
		unix.Unmount(host+"/sub", unix.MNT_DETACH)
		os.RemoveAll(host)
	})
	p := d.PodConfig("options")
	pod := d.RunPod(p)
	const both = "for f in /m/echo /m/sub/echo; do $f ran || echo no; done 2>/dev/null"
	const write = "for f in /m/a /m/sub/a; do touch $f && echo yes && rm $f || echo no; done 2>/dev/null"
	const flags = "grep -c ' /m[^ ]* %s,nosuid,nodev,noexec' /proc/self/mountinfo"
	for name, c := range map[string]struct {
		mount  *v1.Mount
		script string
		want   string // with the node's ids, and with the pod's
		mapped string // with the pod's, where it differs: a volume is idmapped, and not what is mounted below it
	}{
		"none":      {&v1.Mount{}, both, "ran\nran", ""},
		"noexec":    {&v1.Mount{MountOptions: []string{"noexec"}}, both, "no\nno", ""},
		"all":       {&v1.Mount{MountOptions: []string{"nosuid", "noexec", "nodev"}}, fmt.Sprintf(flags, "rw"), "2", ""},
		"rw":        {&v1.Mount{}, write, "yes\nyes", "yes\nno"},
		"read-only": {&v1.Mount{Readonly: true}, write, "no\nyes", "no\nno"},
		"rro":       {&v1.Mount{Readonly: true, RecursiveReadOnly: true}, write, "no\nno", ""},
		"rro-all": {&v1.Mount{Readonly: true, RecursiveReadOnly: true, MountOptions: []string{"noexec", "nosuid", "nodev"}},
			fmt.Sprintf(flags, "ro"), "2", ""},
	} {
		c.mount.HostPath, c.mount.ContainerPath = host, "/m"
		for mode, want := range map[v1.NamespaceMode]string{v1.NamespaceMode_NODE: c.want, v1.NamespaceMode_POD: cmp.Or(c.mapped, c.want)} {
			ctr := d.ContainerConfig(name+mode.String(), c.script)
			ctr.Mounts = []*v1.Mount{c.mount}
			ctr.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: mode}
			if got, s := output(t, d, pod, p, ctr); got != want {
				t.Errorf("%s, users of %v: %q (ended with %d)", name, mode, got, s.ExitCode)
			}
		}
	}
	for name, m := range map[string]*v1.Mount{
		"writable": {RecursiveReadOnly: true},
		"slave":    {RecursiveReadOnly: true, Readonly: true, Propagation: v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		"shared":   {RecursiveReadOnly: true, Readonly: true, Propagation: v1.MountPropagation_PROPAGATION_BIDIRECTIONAL},
	} {
		m.HostPath, m.ContainerPath = host, "/m"
		c := d.ContainerConfig(name, "true")
		c.Mounts = []*v1.Mount{m}
		refused(t, d, pod, c, codes.InvalidArgument, "recursive_read_only")
	}
}

// A mount's own id maps, which the kubelet gives with each volume of a pod with users of its own: what is written inside
// is on the node as the maps say, and what cannot be mapped fails.
func TestMountMaps(t *testing.T) {
	d := started(t, cri)
	host := filepath.Join(d.Dir, "maps")
	sh(t, "mkdir "+host+" && echo x >"+host+"/of-1000 && chown 1000:1000 "+host+"/of-1000 && chmod 777 "+host)
	t.Cleanup(func() { os.RemoveAll(host) })
	maps := []*v1.IDMapping{{HostId: 3000000, ContainerId: 0, Length: 65536}}
	id, p := pod(d, "maps", &v1.UserNamespace{Mode: v1.NamespaceMode_POD, Uids: maps, Gids: maps})
	for name, c := range map[string]struct {
		maps           []*v1.IDMapping
		script, inside string
	}{
		"none":      {nil, "stat -c %u /m/of-1000; touch /m/new-none", "1000"},
		"the-pods":  {maps, "stat -c %u /m/of-1000; touch /m/new-the-pods", "1000"},
		"its-owner": {[]*v1.IDMapping{{HostId: 3000000, ContainerId: 1000, Length: 1}}, "stat -c %u /m/of-1000; echo y >>/m/of-1000; touch /m/x 2>/dev/null || echo no", "0\nno"},
	} {
		ctr := d.ContainerConfig(name, c.script)
		ctr.Linux.SecurityContext.NamespaceOptions.UsernsOptions = p.Linux.SecurityContext.NamespaceOptions.UsernsOptions
		ctr.Mounts = []*v1.Mount{{HostPath: host, ContainerPath: "/m", UidMappings: c.maps, GidMappings: c.maps}}
		got, s := output(t, d, id, p, ctr)
		if got != c.inside || s.ExitCode != 0 {
			t.Errorf("%s: the file is %s's inside, ended with %d", name, got, s.ExitCode)
			continue
		}
		if m := s.Mounts[0]; len(m.UidMappings) != len(c.maps) || len(m.GidMappings) != len(c.maps) {
			t.Errorf("%s: its status says %v", name, m)
		}
	}
	if got := sh(t, "stat -c %u "+host+"/new-none "+host+"/new-the-pods "+host+"/of-1000; tail -1 "+host+"/of-1000"); got != "0\n0\n1000\ny" {
		t.Errorf("on the node there is %q", got)
	}
}
