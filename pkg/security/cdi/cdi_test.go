package cdi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const gpu = `cdiVersion: "1.1.0"
kind: vendor.example/gpu
containerEdits:
  env: ["VENDOR=yes"]
devices:
- name: one
  containerEdits:
    env: ["GPU=one"]
    deviceNodes: [{path: /dev/gpu1, hostPath: /dev/null, permissions: rw}]
    mounts: [{hostPath: /etc/hostname, containerPath: /usr/lib/gpu, options: [ro, bind]}]
    additionalGids: [44]
- name: hooked
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/true, args: [true], timeout: 900}, {hookName: createContainer, path: /bin/true}]
- name: late
  containerEdits:
    hooks: [{hookName: poststop, path: /bin/true}]
- name: wire
  containerEdits:
    netDevices: [{hostInterfaceName: eth7, name: gpu0}]
- name: cache
  containerEdits:
    intelRdt: {closID: x}
- name: absent
  containerEdits:
    deviceNodes: [{path: /dev/no-such-device}]
- name: relative
  containerEdits:
    hooks: [{hookName: createRuntime, path: bin/true}]
`

// dir is a directory of CDI files, by name.
func dir(t testing.TB, files map[string]string) string {
	t.Helper()
	d := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestFind(t *testing.T) {
	r := Registry{Dirs: []string{"/nowhere", dir(t, map[string]string{"gpu.yaml": gpu, "notes.txt": "no spec"})}}
	e, err := r.Find([]string{"vendor.example/gpu=one"}, spec.User{UID: 7, GID: 8})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(e.Env, " "); got != "VENDOR=yes GPU=one" {
		t.Errorf("environment %s", got)
	}
	if len(e.Devices) != 1 || e.Devices[0].Path != "/dev/gpu1" || e.Devices[0].Major != 1 || e.Devices[0].Minor != 3 || *e.Devices[0].UID != 7 || *e.Devices[0].GID != 8 {
		t.Errorf("devices %+v", e.Devices)
	}
	if e.Sources["/dev/gpu1"] != "/dev/null" {
		t.Errorf("its device is %v on the node", e.Sources)
	}
	if len(e.Rules) != 1 || e.Rules[0].Access != "rw" || !e.Rules[0].Allow || *e.Rules[0].Minor != 3 {
		t.Errorf("rules %+v", e.Rules)
	}
	if len(e.Mounts) != 1 || e.Mounts[0].Source != "/etc/hostname" || fmt.Sprint(e.Groups) != "[44]" || e.Hooks != nil || e.Empty() {
		t.Errorf("%+v", e)
	}
	e, err = r.Find([]string{"vendor.example/gpu=hooked"}, spec.User{})
	if err != nil || *e.Hooks.CreateRuntime[0].Timeout != maxHookTimeout || *e.Hooks.CreateContainer[0].Timeout != hookTimeout {
		t.Errorf("each hook has an end: %+v, %v", e.Hooks, err)
	}
	for _, none := range []Registry{r, {}} {
		if e, err := none.Find(nil, spec.User{}); err != nil || !e.Empty() {
			t.Errorf("nothing asked: %+v, %v", e, err)
		}
	}
}

func TestRefused(t *testing.T) {
	good := dir(t, map[string]string{"gpu.yaml": gpu})
	for name, c := range map[string]struct {
		dirs []string
		want error
		says string
	}{
		"vendor.example/gpu=two":      {[]string{good}, errdefs.ErrNotFound, "=two"},
		"vendor.example/gpu=one":      {nil, errdefs.ErrNotFound, "=one"},
		"vendor.example/gpu=late":     {[]string{good}, errdefs.ErrNotImplemented, "poststop"},
		"vendor.example/gpu=wire":     {[]string{good}, errdefs.ErrNotImplemented, "network devices"},
		"vendor.example/gpu=cache":    {[]string{good}, errdefs.ErrNotImplemented, "RDT"},
		"vendor.example/gpu=absent":   {[]string{good}, errdefs.ErrFailedPrecondition, "/dev/no-such-device"},
		"vendor.example/gpu=relative": {[]string{good}, errdefs.ErrFailedPrecondition, "absolute"},
		"vendor.example/gpu=broken":   {[]string{dir(t, map[string]string{"a.yaml": gpu, "b.json": "{"})}, errdefs.ErrNotFound, "b.json"},
		"vendor.example/gpu=hooked":   {[]string{dir(t, map[string]string{"a.yaml": gpu, "b.yaml": gpu})}, errdefs.ErrNotFound, "conflicting"},
	} {
		if e, err := (Registry{Dirs: c.dirs}).Find([]string{name}, spec.User{}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !e.Empty() {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

// A later directory's device wins.
func TestPriority(t *testing.T) {
	other := strings.ReplaceAll(gpu, "GPU=one", "GPU=other")
	r := Registry{Dirs: []string{dir(t, map[string]string{"a.yaml": gpu}), dir(t, map[string]string{"a.yaml": other})}}
	e, err := r.Find([]string{"vendor.example/gpu=one"}, spec.User{})
	if err != nil || e.Env[len(e.Env)-1] != "GPU=other" {
		t.Errorf("%v, %v", e.Env, err)
	}
}

// Whoever can write a file there can run programs on the node: one that is not root's alone refuses every device.
func TestFilesThatOthersWrite(t *testing.T) {
	for name, spoil := range map[string]func(dir, file string) error{
		"file of another user":      func(_, file string) error { return os.Chown(file, 1000, 0) },
		"file that a group writes":  func(_, file string) error { return os.Chmod(file, 0o664) },
		"file that all write":       func(_, file string) error { return os.Chmod(file, 0o666) },
		"directory that all write":  func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"directory of another user": func(dir, _ string) error { return os.Chown(dir, 1000, 0) },
		"a link": func(dir, file string) error {
			return os.Symlink(file, filepath.Join(dir, "link.json"))
		},
		"a directory of that name is passed over": func(dir, _ string) error { return os.Mkdir(filepath.Join(dir, "sub.json"), 0o777) },
		"a huge file": func(_, file string) error { return os.Truncate(file, maxFile+1) },
	} {
		d := dir(t, map[string]string{"gpu.yaml": gpu, "other.json": "{}"})
		if err := spoil(d, filepath.Join(d, "other.json")); err != nil {
			t.Fatal(err)
		}
		_, err := (Registry{Dirs: []string{d}}).Find([]string{"vendor.example/gpu=one"}, spec.User{})
		if fine := strings.Contains(name, "passed over"); fine != (err == nil) || !fine && !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Registry{Dirs: []string{file}}).Find([]string{"a/b=c"}, spec.User{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("a file for a directory: %v", err)
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte(gpu), "vendor.example/gpu=one")
	f.Add([]byte(gpu), "vendor.example/gpu=hooked")
	f.Add([]byte("{"), "a/b=c")
	f.Add([]byte("a: &a [*a]"), "a/b=c")
	d := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if err := os.WriteFile(filepath.Join(d, "x.yaml"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		e, err := (Registry{Dirs: []string{d}}).Find([]string{name}, spec.User{})
		if err != nil {
			if spec.KindOf(err) == nil || !e.Empty() {
				t.Errorf("%v", err)
			}
			return
		}
		if e.Hooks == nil {
			return
		}
		served, not := hookKinds(e.Hooks)
		if len(not) > 0 {
			t.Error("a hook that nobody would run")
		}
		for _, list := range served {
			for _, h := range list {
				if h.Timeout == nil || *h.Timeout < 1 || *h.Timeout > maxHookTimeout || !filepath.IsAbs(h.Path) {
					t.Errorf("%+v", h)
				}
			}
		}
	})
}
