package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func find(list []specs.Mount, dst string) *specs.Mount {
	if i := slices.IndexFunc(list, func(m specs.Mount) bool { return m.Destination == dst }); i >= 0 {
		return &list[i]
	}
	return nil
}

func TestMount(t *testing.T) {
	one := []spec.IDMapping{{ContainerID: 0, HostID: 5, Size: 1}}
	for _, c := range []struct {
		name string
		m    spec.Mount
		edit func(*Input)
		want string // destination source options, maps
	}{
		{"plain", spec.Mount{ContainerPath: "/d", HostPath: "/h"}, nil, "/d /h rbind,rprivate,rw 1073741824"},
		{"private", spec.Mount{ContainerPath: "/d", HostPath: "/h", Propagation: spec.PropagationPrivate}, nil, "/d /h rbind,rprivate,rw 1073741824"},
		{"slave", spec.Mount{ContainerPath: "/d", HostPath: "/h", Propagation: spec.PropagationHostToContainer}, nil, "/d /h rbind,rslave,rw 1073741824"},
		{"shared", spec.Mount{ContainerPath: "/d", HostPath: "/h", Propagation: spec.PropagationBidirectional}, hostIDs, "/d /h rbind,rshared,rw -"},
		{"read-only", spec.Mount{ContainerPath: "/d", HostPath: "/h", Readonly: true}, nil, "/d /h rbind,rprivate,ro 1073741824"},
		{"recursively", spec.Mount{ContainerPath: "/d", HostPath: "/h", Readonly: true, RecursiveReadonly: true}, nil, "/d /h rbind,rprivate,rro 1073741824"},
		{"relative", spec.Mount{ContainerPath: "d/./e", HostPath: "/h"}, nil, "/d/e /h rbind,rprivate,rw 1073741824"},
		{"unclean", spec.Mount{ContainerPath: "/../../d", HostPath: "/h/../i/"}, nil, "/d /i rbind,rprivate,rw 1073741824"},
		{"node's ids", spec.Mount{ContainerPath: "/d", HostPath: "/h"}, hostIDs, "/d /h rbind,rprivate,rw -"},
		{"own map", spec.Mount{ContainerPath: "/d", HostPath: "/h", UIDs: one, GIDs: one}, nil, "/d /h rbind,rprivate,rw 5"},
		{"own map, node's ids", spec.Mount{ContainerPath: "/d", HostPath: "/h", UIDs: one, GIDs: one}, hostIDs, "/d /h rbind,rprivate,rw 5"},
		{"resolved", spec.Mount{ContainerPath: "/d", HostPath: "/h"}, func(in *Input) { in.Sources = map[string]string{"/h": "/real"} }, "/d /real rbind,rprivate,rw 1073741824"},
		{"lxcfs", spec.Mount{ContainerPath: "/proc/meminfo", HostPath: "/h"}, nil, "/proc/meminfo /h rbind,rprivate,rw 1073741824"},
		{"below /dev", spec.Mount{ContainerPath: "/dev/termination-log", HostPath: "/h"}, nil, "/dev/termination-log /h rbind,rprivate,rw 1073741824"},
		{"below /sys", spec.Mount{ContainerPath: "/sys/fs/bpf", HostPath: "/h"}, nil, "/sys/fs/bpf /h rbind,rprivate,rw 1073741824"},
		{"/dev, privileged", spec.Mount{ContainerPath: "/dev", HostPath: "/dev"}, privileged, "/dev /dev rbind,rprivate,rw -"},
		{"/sys, privileged", spec.Mount{ContainerPath: "/sys", HostPath: "/sys"}, privileged, "/sys /sys rbind,rprivate,rw -"},
		{"options", spec.Mount{ContainerPath: "/d", HostPath: "/h", Options: []string{"noexec", "nosuid"}}, nil, "/d /h rbind,rprivate,rw,rnoexec,rnosuid 1073741824"},
		{"image", spec.Mount{ContainerPath: "/d", Image: "i", ImageSubPath: "a/../b"}, mountImages, "/d /run/runtimed/mounts/image-0 rbind,rprivate,ro,nosuid,nodev -"},
		{"image, no programs", spec.Mount{ContainerPath: "/d", Image: "i", Options: []string{"noexec", "nodev"}}, mountImages, "/d /run/runtimed/mounts/image-0 rbind,rprivate,ro,nosuid,nodev,noexec -"},
		{"above the runtime's", spec.Mount{ContainerPath: "/d", HostPath: "/var/lib"}, nil, "/d /var/lib rbind,rprivate,rw 1073741824"},
		{"beside the runtime's", spec.Mount{ContainerPath: "/d", HostPath: "/var/lib/runtimed2"}, nil, "/d /var/lib/runtimed2 rbind,rprivate,rw 1073741824"},
	} {
		in := input(mountOf(c.m))
		if c.edit != nil {
			c.edit(&in)
		}
		config, _, err := Build(in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		m := find(config.Mounts, strings.Fields(c.want)[0])
		if m == nil {
			t.Errorf("%s: not mounted", c.name)
			continue
		}
		maps := "-"
		if m.UIDMappings != nil && m.GIDMappings != nil {
			maps = fmt.Sprint(m.UIDMappings[0].HostID)
		}
		if got := fmt.Sprint(m.Destination, " ", m.Source, " ", strings.Join(m.Options, ","), " ", maps); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func mountImages(in *Input) {
	in.Container.MountImages = map[int]spec.ImageUse{0: {ID: "sha256:2", Layers: []string{"sha256:c"}}}
}

// TestImagesOfMounts: the creator is told which part of which image; no spelling leaves it.
func TestImagesOfMounts(t *testing.T) {
	for sub, want := range map[string]string{"": "", ".": "", "a": "a", "a/b/": "a/b", "a/../b": "b", "../../etc": "etc", "a/../../..": "", "a//b": "a/b"} {
		in := input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", ImageSubPath: sub}), mountImages)
		_, l, err := Build(in)
		if err != nil || len(l.Images) != 1 || l.Images[0].Index != 0 || l.Images[0].SubPath != want || len(l.Images[0].Layers) != 1 {
			t.Errorf("%q: %+v, %v", sub, l.Images, err)
		}
	}
	for name, in := range map[string]Input{
		"absolute":    input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", ImageSubPath: "/etc"}), mountImages),
		"NUL":         input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", ImageSubPath: "a\x00"}), mountImages),
		"with a path": input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", HostPath: "/h"}), mountImages),
		"with maps":   input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", UIDs: []spec.IDMapping{{Size: 1}}}), mountImages),
		"shared":      input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", Propagation: spec.PropagationBidirectional}), mountImages),
		"option":      input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i", Options: []string{"dev"}}), mountImages),
		"at the root": input(mountOf(spec.Mount{ContainerPath: "/", Image: "i"}), mountImages),
		"in /proc":    input(mountOf(spec.Mount{ContainerPath: "/proc/x", Image: "i"}), mountImages),
	} {
		if _, _, err := Build(in); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Build(input(mountOf(spec.Mount{ContainerPath: "/d", Image: "i"}))); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a record that does not say which image: %v", err)
	}
}

func TestMountRefused(t *testing.T) {
	one := []spec.IDMapping{{ContainerID: 0, HostID: 5, Size: 1}}
	for _, c := range []struct {
		name string
		m    spec.Mount
		edit func(*Input)
	}{
		{"the root", spec.Mount{ContainerPath: "/", HostPath: "/h"}, nil},
		{"the root, spelt otherwise", spec.Mount{ContainerPath: "/a/..", HostPath: "/h"}, nil},
		{"the root, relative", spec.Mount{ContainerPath: ".", HostPath: "/h"}, nil},
		{"empty", spec.Mount{HostPath: "/h"}, nil},
		{"/proc", spec.Mount{ContainerPath: "/proc", HostPath: "/h"}, nil},
		{"/proc, relative", spec.Mount{ContainerPath: "proc", HostPath: "/h"}, nil},
		{"/proc by ..", spec.Mount{ContainerPath: "/x/../proc/", HostPath: "/h"}, nil},
		{"/proc, privileged", spec.Mount{ContainerPath: "/proc", HostPath: "/proc"}, privileged},
		{"below /proc", spec.Mount{ContainerPath: "/proc/sys", HostPath: "/h"}, nil},
		{"below /proc, privileged", spec.Mount{ContainerPath: "/proc/1/root", HostPath: "/h"}, privileged},
		{"/sys", spec.Mount{ContainerPath: "/sys", HostPath: "/h"}, nil},
		{"/dev", spec.Mount{ContainerPath: "/dev/", HostPath: "/h"}, nil},
		{"NUL inside", spec.Mount{ContainerPath: "/d\x00", HostPath: "/h"}, nil},
		{"NUL outside", spec.Mount{ContainerPath: "/d", HostPath: "/h\x00"}, nil},
		{"relative outside", spec.Mount{ContainerPath: "/d", HostPath: "h"}, nil},
		{"nothing outside", spec.Mount{ContainerPath: "/d"}, nil},
		{"too long", spec.Mount{ContainerPath: "/" + strings.Repeat("a", 4096), HostPath: "/h"}, nil},
		{"the runtime's root", spec.Mount{ContainerPath: "/d", HostPath: "/var/lib/runtimed"}, nil},
		{"below it", spec.Mount{ContainerPath: "/d", HostPath: "/var/lib/runtimed/images"}, nil},
		{"by ..", spec.Mount{ContainerPath: "/d", HostPath: "/x/../var/lib/runtimed/images"}, nil},
		{"its socket", spec.Mount{ContainerPath: "/d", HostPath: "/run/runtimed/runtimed.sock"}, privileged},
		{"by a link", spec.Mount{ContainerPath: "/d", HostPath: "/h"}, func(in *Input) { in.Sources = map[string]string{"/h": "/run/runtimed"} }},
		{"twice", spec.Mount{ContainerPath: "/t/", HostPath: "/h"}, mountOf(spec.Mount{ContainerPath: "/t", HostPath: "/i"})},
		{"rro without ro", spec.Mount{ContainerPath: "/d", HostPath: "/h", RecursiveReadonly: true}, nil},
		{"rro and slave", spec.Mount{ContainerPath: "/d", HostPath: "/h", Readonly: true, RecursiveReadonly: true, Propagation: spec.PropagationHostToContainer}, nil},
		{"rro and shared", spec.Mount{ContainerPath: "/d", HostPath: "/h", Readonly: true, RecursiveReadonly: true, Propagation: spec.PropagationBidirectional}, nil},
		{"unknown propagation", spec.Mount{ContainerPath: "/d", HostPath: "/h", Propagation: "x"}, nil},
		{"users alone", spec.Mount{ContainerPath: "/d", HostPath: "/h", UIDs: one}, nil},
		{"groups alone", spec.Mount{ContainerPath: "/d", HostPath: "/h", GIDs: one}, nil},
	} {
		in := input(mountOf(c.m))
		if c.edit != nil {
			c.edit(&in)
		}
		_, _, err := Build(in)
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "mounts[") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestMountOrder(t *testing.T) {
	var edits []func(*Input)
	for _, p := range []string{"/a/b/c", "/dev/shm", "/etc", "/a", "/var/run/x", "/a/b", "/dev/shm/in"} {
		edits = append(edits, mountOf(spec.Mount{ContainerPath: p, HostPath: "/h" + p}))
	}
	config, _, err := Build(input(edits...))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, m := range config.Mounts {
		if _, twice := at[m.Destination]; twice {
			t.Errorf("%s is mounted twice", m.Destination)
		}
		at[m.Destination] = i
	}
	for _, pair := range [][2]string{{"/a", "/a/b"}, {"/a/b", "/a/b/c"}, {"/dev", "/dev/shm"}, {"/dev/shm", "/dev/shm/in"}, {"/etc", "/etc/hosts"},
		{"/sys", cgroupDir}, {"/dev", "/dev/pts"}, {"/dev", "/dev/mqueue"}} {
		if at[pair[0]] >= at[pair[1]] {
			t.Errorf("%s hides %s", pair[0], pair[1])
		}
	}
	if m := find(config.Mounts, "/dev/shm"); m.Source != "/h/dev/shm" {
		t.Errorf("the pod's /dev/shm was not replaced: %+v", m)
	}
}

func TestRootPropagation(t *testing.T) {
	for _, c := range []struct {
		want string
		list []spec.Propagation
	}{
		{"", nil},
		{"", []spec.Propagation{spec.PropagationPrivate}},
		{"rslave", []spec.Propagation{spec.PropagationHostToContainer, spec.PropagationPrivate}},
		{"rshared", []spec.Propagation{spec.PropagationBidirectional, spec.PropagationHostToContainer}},
		{"rshared", []spec.Propagation{spec.PropagationHostToContainer, spec.PropagationBidirectional}},
	} {
		in := input(hostIDs)
		for i, p := range c.list {
			mountOf(spec.Mount{ContainerPath: fmt.Sprint("/m", i), HostPath: "/h", Propagation: p})(&in)
		}
		config, _, err := Build(in)
		if err != nil || config.Linux.RootfsPropagation != c.want {
			t.Errorf("%v: %q, %v", c.list, config.Linux.RootfsPropagation, err)
		}
	}
}

func TestModesOfTheStandardMounts(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(*Input)
		rw      []string
		ro      []string
		shmFrom string
	}{
		{"default", func(*Input) {}, []string{"/etc/hosts", "/dev/shm"}, []string{"/sys", cgroupDir}, "/run/runtimed/shm/" + sid},
		{"read-only root", func(in *Input) { in.Container.Profile.ReadonlyRoot = true }, []string{"/dev/shm"}, []string{"/sys", cgroupDir, "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"}, "/run/runtimed/shm/" + sid},
		{"privileged", privileged, []string{"/sys", cgroupDir, "/etc/hosts"}, nil, "/run/runtimed/shm/" + sid},
		{"the node's IPC", hostPod, []string{"/dev/shm"}, []string{"/sys"}, "/dev/shm"},
	} {
		config, _, err := Build(input(c.edit))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.rw {
			if !slices.Contains(find(config.Mounts, p).Options, "rw") {
				t.Errorf("%s: %s is not writable", c.name, p)
			}
		}
		for _, p := range c.ro {
			if !slices.Contains(find(config.Mounts, p).Options, "ro") {
				t.Errorf("%s: %s is writable", c.name, p)
			}
		}
		if got := find(config.Mounts, "/dev/shm").Source; got != c.shmFrom {
			t.Errorf("%s: /dev/shm is %s", c.name, got)
		}
	}
}

func TestVolumes(t *testing.T) {
	for _, c := range []struct {
		name    string
		volumes []string
		mounts  []string
		want    string
		wrong   bool
	}{
		{"none", nil, nil, "", false},
		{"two, sorted, once", []string{"/z", "/a", "/a/"}, nil, "/a /z", false},
		{"relative", []string{"data"}, nil, "/data", false},
		{"up and away", []string{"/../../canary"}, nil, "/canary", false},
		{"covered", []string{"/data"}, []string{"/data/"}, "", false},
		{"covered, relative", []string{"/data"}, []string{"data"}, "", false},
		{"a mount above does not cover", []string{"/data/db"}, []string{"/data"}, "/data/db", false},
		{"a mount below does not cover", []string{"/data"}, []string{"/data/db"}, "/data", false},
		{"root", []string{"/"}, nil, "", true},
		{"root by ..", []string{"/x/.."}, nil, "", true},
		{"/proc", []string{"/proc"}, nil, "", true},
		{"below /proc", []string{"/proc/sys"}, nil, "", true},
		{"/proc by ..", []string{"/x/../proc"}, nil, "", true},
		{"/sys", []string{"/sys/fs/cgroup"}, nil, "", true},
		{"/dev", []string{"/dev"}, nil, "", true},
		{"NUL", []string{"/a\x00"}, nil, "", true},
		{"too many", func() (l []string) {
			for i := range maxVolumes + 1 {
				l = append(l, fmt.Sprint("/v", i))
			}
			return l
		}(), nil, "", true},
	} {
		in := input(func(in *Input) { in.Container.Image.Config.Volumes = c.volumes })
		for _, m := range c.mounts {
			mountOf(spec.Mount{ContainerPath: m, HostPath: "/h"})(&in)
		}
		_, launch, err := Build(in)
		if got := strings.Join(launch.Volumes, " "); got != c.want || c.wrong != errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}
