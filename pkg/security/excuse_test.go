package security

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// excuses are all requests that take a container out of its pod's user namespace, by the field that does.
var excuses = []struct {
	field string
	edit  func(*ContainerInput)
}{
	{"security.privileged", security(func(s *spec.ContainerSecurity) { s.Privileged = true })},
	{"security.namespaces.user", security(func(s *spec.ContainerSecurity) { s.Namespaces.User.Mode = spec.NamespaceNode })},
	{"security.namespaces.pid", security(func(s *spec.ContainerSecurity) { s.Namespaces.PID = spec.NamespaceNode })},
	{"security.namespaces.target", func(in *ContainerInput) { target(spec.Profile{HostIDs: true})(in) }},
	{"devices", func(in *ContainerInput) { in.Request.Devices = []spec.Device{{HostPath: "/dev/fuse"}} }},
	{"CDI_devices", func(in *ContainerInput) { in.Request.CDIDevices = []string{"vendor.example/class=one"} }},
	{"mounts", mount(spec.Mount{ContainerPath: "/m", HostPath: "/h", Propagation: spec.PropagationBidirectional})},
	{"mounts", func(in *ContainerInput) { nfs(in); mount(spec.Mount{ContainerPath: "/m", HostPath: "/nfs"})(in) }},
	{"security.run_as_user", security(func(s *spec.ContainerSecurity) { s.RunAsUser = id64(70000) })},
	{"security.run_as_group", security(func(s *spec.ContainerSecurity) { s.RunAsUser, s.RunAsGroup = id64(1), id64(65536) })},
	{"security.supplemental_groups", security(func(s *spec.ContainerSecurity) { s.SupplementalGroups = []int64{5, 70000} })},
}

// target makes the container share the PID namespace of one of its pod.
func target(p spec.Profile) func(*ContainerInput) {
	return func(in *ContainerInput) {
		in.Request.Security.Namespaces.PID, in.Request.Security.Namespaces.Target = spec.NamespaceTarget, "t"
		in.Target = &spec.Container{ID: "t", SandboxID: in.Sandbox.ID, Profile: p}
	}
}

func TestExcuses(t *testing.T) {
	for _, e := range excuses {
		p, err := ResolveContainer(container(e.edit), node)
		if err != nil || !p.HostIDs || len(p.Reasons) == 0 || p.Reasons[0].Field != e.field || p.Reasons[0].Text == "" {
			t.Errorf("%s: %+v, %v", e.field, p, err)
		}
		p, err = ResolveContainer(container(askedPod, e.edit), node)
		if shared[e.field] != "" {
			if err != nil || p.HostIDs || p.Reasons[0] != (spec.Reason{Field: e.field, Text: shared[e.field]}) {
				t.Errorf("%s in a pod that asked for its user namespace: %+v, %v", e.field, p, err)
			}
		} else if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), e.field) {
			t.Errorf("%s against a pod that asked for its user namespace: %v", e.field, err)
		}
		p, err = ResolveContainer(container(nodePod, e.edit), node)
		if err != nil || p.HostIDs {
			t.Errorf("%s in a pod without a user namespace: %+v, %v", e.field, p, err)
		}
	}
	_, list := Excuses()
	for _, f := range list {
		if !slices.ContainsFunc(excuses, func(e struct {
			field string
			edit  func(*ContainerInput)
		}) bool {
			return e.field == f
		}) {
			t.Errorf("the excuse %s is not tested", f)
		}
	}
}

// TestNoExcuse: what leaves a container in its pod's user namespace.
func TestNoExcuse(t *testing.T) {
	for name, edit := range map[string]func(*ContainerInput){
		"nothing":                    func(*ContainerInput) {},
		"a volume":                   func(in *ContainerInput) { nfs(in); mount(spec.Mount{ContainerPath: "/m", HostPath: "/ext4"})(in) },
		"a volume from the host":     mount(spec.Mount{ContainerPath: "/m", HostPath: "/h", Propagation: spec.PropagationHostToContainer}),
		"capabilities":               security(func(s *spec.ContainerSecurity) { s.Capabilities.Add = []string{"ALL"} }),
		"unconfined":                 security(func(s *spec.ContainerSecurity) { s.Seccomp = &spec.SecurityProfile{Type: spec.ProfileUnconfined} }),
		"own PID namespace":          security(func(s *spec.ContainerSecurity) { s.Namespaces.PID = spec.NamespaceContainer }),
		"its target's PID namespace": target(spec.Profile{}),
		"an image, where volumes cannot be idmapped": func(in *ContainerInput) {
			in.NotIDMappable = func(spec.Mount) error { return errors.New("never") }
			mount(spec.Mount{ContainerPath: "/m", Image: "i"})(in)
		},
		"POD":              security(func(s *spec.ContainerSecurity) { s.Namespaces.User.Mode = spec.NamespacePod }),
		"the last user":    security(func(s *spec.ContainerSecurity) { s.RunAsUser, s.RunAsGroup = id64(65535), id64(65535) }),
		"the image's user": image("1000:1001"),
		"the image's labels": func(in *ContainerInput) {
			in.Image.Labels = map[string]string{"io.runtimed.userns": "node", "io.kubernetes.cri-o.userns-mode": "host"}
		},
		"annotations": func(in *ContainerInput) {
			in.Request.Annotations = map[string]string{"io.kubernetes.cri-o.userns-mode": "host"}
		},
		"groups of the image":     image("dev"),
		"volumes of the image":    func(in *ContainerInput) { in.Image.Volumes = []string{"/v"} },
		"read-only, no new privs": security(func(s *spec.ContainerSecurity) { s.ReadonlyRootfs, s.NoNewPrivileges = true, true }),
	} {
		for _, pod := range []func(*ContainerInput){func(*ContainerInput) {}, askedPod} {
			if p, err := ResolveContainer(container(pod, edit), node); err != nil || p.HostIDs {
				t.Errorf("%s: %+v, %v", name, p.Reasons, err)
			}
		}
	}
}

// TestImageIsNoExcuse: an image that could choose ids outside its pod's range would choose to run as a user of the node.
func TestImageIsNoExcuse(t *testing.T) {
	for name, edit := range map[string]func(*ContainerInput){
		"id":                           image("100000"),
		"group":                        image("0:100000"),
		"name":                         image("big"),
		"a name that the request says": security(func(s *spec.ContainerSecurity) { s.RunAsUsername = "big" }),
		"the group behind a name":      func(in *ContainerInput) { in.Passwd = strings.NewReader("u:x:5:70000:::"); in.Image.User = "u" },
		"the group behind the request's id": func(in *ContainerInput) {
			in.Passwd = strings.NewReader("u:x:5:70000:::")
			in.Request.Security.RunAsUser = id64(5)
		},
		"a name that the request says again": func(in *ContainerInput) {
			in.Passwd = strings.NewReader("u:x:70000:5:::")
			in.Request.Security.RunAsUsername = "u"
		},
	} {
		for _, pod := range []func(*ContainerInput){func(*ContainerInput) {}, askedPod} {
			if p, err := ResolveContainer(container(pod, edit), node); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
	}
	p, err := ResolveContainer(container(image("dev")), node)
	if err != nil || slices.Contains(p.User.Groups, 200000) || !slices.Contains(p.User.Groups, 50000) || len(p.Reasons) != 1 {
		t.Errorf("a group of the image that the pod does not have is left out, and said: %+v, %v", p, err)
	}
	p, err = ResolveContainer(container(nodePod, image("dev")), node)
	if err != nil || !slices.Contains(p.User.Groups, 200000) {
		t.Errorf("with the node's ids every group is there: %+v, %v", p, err)
	}
}
