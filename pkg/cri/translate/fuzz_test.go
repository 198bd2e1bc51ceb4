package translate

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// seeds are every good and bad message of the other tests, as bytes.
func seeds(f *testing.F, good func() proto.Message) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(good())
	eachField(good(), func(_, _ string, set func(proto.Message, bool)) {
		m := good()
		set(m, true)
		add(m)
	})
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0xff})
}

// sameRecord: what is accepted survives being written as a record.
func sameRecord[T any](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, back, cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
}

// tame fails on a string that must not get past the door.
func tame(t *testing.T, what, s string) {
	t.Helper()
	if strings.ContainsAny(s, "\x00\n\r\x1b") || !utf8.ValidString(s) {
		t.Fatalf("%s is %q", what, s)
	}
}

func FuzzSandbox(f *testing.F) {
	seeds(f, func() proto.Message { return goodSandbox() })
	f.Fuzz(func(t *testing.T, b []byte) {
		var m v1.RunPodSandboxRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r, err := Sandbox(&m)
		if err != nil {
			return
		}
		sameRecord(t, r)
		for what, s := range map[string]string{"name": r.Metadata.Name, "uid": r.Metadata.UID, "namespace": r.Metadata.Namespace} {
			tame(t, what, s)
			if s == "" || path.Base(s) != s || s == ".." || s == "." {
				t.Fatalf("%s is %q", what, s)
			}
		}
		tame(t, "hostname", r.Hostname)
		tame(t, "cgroup parent", r.CgroupParent)
		if r.CgroupParent != "" && path.Clean(r.CgroupParent) != r.CgroupParent || strings.Contains(r.CgroupParent, "..") && strings.Contains("/"+r.CgroupParent+"/", "/../") {
			t.Fatalf("cgroup parent is %q", r.CgroupParent)
		}
		if r.DNS != nil {
			for _, list := range [][]string{r.DNS.Servers, r.DNS.Searches, r.DNS.Options} {
				for _, s := range list {
					tame(t, "a word of resolv.conf", s)
					if len(strings.Fields(s)) != 1 {
						t.Fatalf("a word of resolv.conf is %q", s)
					}
				}
			}
		}
		for k, v := range r.Sysctls {
			tame(t, "sysctl", k)
			tame(t, "value of a sysctl", v)
			if strings.Contains(k, "..") {
				t.Fatalf("sysctl %q", k)
			}
		}
		checkNamespaces(t, r.Security.Namespaces)
		SandboxStatus(spec.SandboxView{Spec: spec.Sandbox{Request: r}})
	})
}

func checkNamespaces(t *testing.T, n spec.Namespaces) {
	t.Helper()
	if n.Network == "" || n.PID == "" || n.IPC == "" {
		t.Fatalf("namespaces are %+v", n)
	}
	for _, m := range append(n.User.UIDs, n.User.GIDs...) {
		if m.Size == 0 || uint64(m.HostID)+uint64(m.Size) > 1<<32-1 || uint64(m.ContainerID)+uint64(m.Size) > 1<<32-1 {
			t.Fatalf("mapping is %+v", m)
		}
	}
}

func FuzzContainer(f *testing.F) {
	seeds(f, func() proto.Message { return goodContainer() })
	more := goodContainer()
	more.Config.Mounts = []*v1.Mount{{ContainerPath: "/i", Image: &v1.ImageSpec{Image: "i"}, ImageSubPath: "a/b", MountOptions: []string{"noexec"}}}
	more.Config.CDIDevices = []*v1.CDIDevice{{Name: "vendor.example/class=one"}}
	more.Config.Annotations = map[string]string{"cdi.k8s.io/x": "vendor.example/class=one,vendor.example/class=two"}
	b, err := proto.Marshal(more)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m v1.CreateContainerRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		id, r, err := Container(&m)
		if err != nil {
			return
		}
		sameRecord(t, r)
		tame(t, "sandbox", id)
		tame(t, "name", r.Name)
		tame(t, "image", r.Image)
		tame(t, "log path", r.LogPath)
		if !within("/logs", path.Join("/logs", r.LogPath)) || path.IsAbs(r.LogPath) {
			t.Fatalf("log path is %q", r.LogPath)
		}
		for _, w := range append(append([]string{}, r.Command...), r.Args...) {
			if strings.Contains(w, "\x00") {
				t.Fatalf("argument is %q", w)
			}
		}
		for _, e := range r.Env {
			if e.Key == "" || strings.ContainsAny(e.Key, "=\x00") || strings.Contains(e.Value, "\x00") {
				t.Fatalf("variable is %q", e)
			}
		}
		for _, x := range r.Mounts {
			if x.Image != "" {
				tame(t, "image of a mount", x.Image)
				tame(t, "path in an image", x.ImageSubPath)
				if x.HostPath != "" || !x.Readonly || x.Propagation != spec.PropagationPrivate || !within("/image", path.Join("/image", x.ImageSubPath)) || path.IsAbs(x.ImageSubPath) {
					t.Fatalf("mount is %+v", x)
				}
			}
			for _, o := range x.Options {
				if !slices.Contains([]string{"noexec", "nodev", "nosuid"}, o) {
					t.Fatalf("mount is %+v", x)
				}
			}
			if x.Image == "" && !path.IsAbs(x.HostPath) || path.Join("/", x.ContainerPath) == "/" || strings.Contains("/"+x.ContainerPath+"/", "/../") {
				t.Fatalf("mount is %+v", x)
			}
			if x.RecursiveReadonly && (!x.Readonly || x.Propagation != spec.PropagationPrivate) {
				t.Fatalf("mount is %+v", x)
			}
		}
		for i, n := range r.CDIDevices {
			tame(t, "CDI device", n)
			if !strings.Contains(n, "/") || !strings.Contains(n, "=") || slices.Contains(r.CDIDevices[:i], n) {
				t.Fatalf("CDI devices are %q", r.CDIDevices)
			}
		}
		for _, id := range []*int64{r.Security.RunAsUser, r.Security.RunAsGroup} {
			if id != nil && (*id < 0 || *id > maxID) {
				t.Fatalf("id is %d", *id)
			}
		}
		checkNamespaces(t, r.Security.Namespaces)
		ContainerStatus(spec.ContainerView{Spec: spec.Container{Request: r}})
	})
}

func within(dir, p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func FuzzPull(f *testing.F) {
	seeds(f, func() proto.Message { return &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "i"}} })
	f.Fuzz(func(t *testing.T, b []byte) {
		var m v1.PullImageRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r, err := Pull(&m)
		if err != nil {
			for _, secret := range []string{m.Auth.GetPassword(), m.Auth.GetIdentityToken()} {
				if len(secret) > 8 && strings.Contains(err.Error(), secret) {
					t.Fatalf("error shows a secret: %v", err)
				}
			}
			return
		}
		tame(t, "reference", r.Ref)
		if r.Ref == "" || strings.ContainsAny(r.Auth.Password, "\r\n\x00") {
			t.Fatalf("pull is %v", r)
		}
	})
}
