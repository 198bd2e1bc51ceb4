package translate

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestNothingGivenIsTheDefault(t *testing.T) {
	got, err := Sandbox(goodSandbox())
	if err != nil {
		t.Fatal(err)
	}
	want := spec.SandboxRequest{
		Metadata: spec.Metadata{Name: "n", UID: "u", Namespace: "ns"},
		Security: spec.SandboxSecurity{Namespaces: spec.Namespaces{
			Network: spec.NamespacePod, PID: spec.NamespacePod, IPC: spec.NamespacePod, User: spec.UserNamespace{Mode: spec.NamespaceUnset},
		}},
		Ports: []spec.PortMapping{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNilRequests(t *testing.T) {
	if _, err := Sandbox(nil); err == nil {
		t.Error("Sandbox(nil)")
	}
	if _, _, err := Container(nil); err == nil {
		t.Error("Container(nil)")
	}
	if _, err := Pull(nil); err == nil {
		t.Error("Pull(nil)")
	}
	if _, _, err := Stop(nil); err == nil {
		t.Error("Stop(nil)")
	}
	if _, err := Exec(nil); err == nil {
		t.Error("Exec(nil)")
	}
	if _, err := ImageRef(nil); err == nil {
		t.Error("ImageRef(nil)")
	}
	if f, err := SandboxFilter(nil); err != nil || f.ID != "" {
		t.Errorf("SandboxFilter(nil): %v, %v", f, err)
	}
	if f, err := ContainerFilter(nil); err != nil || f.ID != "" {
		t.Errorf("ContainerFilter(nil): %v, %v", f, err)
	}
	if ref, err := ImageFilter(nil); err != nil || ref != "" {
		t.Errorf("ImageFilter(nil): %q, %v", ref, err)
	}
}

func TestSeccompAndAppArmor(t *testing.T) {
	profile := func(kind v1.SecurityProfile_ProfileType, ref string) *v1.SecurityProfile {
		return &v1.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	}
	for _, tc := range []struct {
		name  string
		now   *v1.SecurityProfile
		old   string
		want  *spec.SecurityProfile
		wrong string
	}{
		{name: "nothing"},
		{name: "empty message is the default", now: &v1.SecurityProfile{}, want: &spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}},
		{name: "unconfined", now: profile(v1.SecurityProfile_Unconfined, ""), want: &spec.SecurityProfile{Type: spec.ProfileUnconfined}},
		{name: "file", now: profile(v1.SecurityProfile_Localhost, "/p"), want: &spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: "/p"}},
		{name: "file with the old prefix", now: profile(v1.SecurityProfile_Localhost, "localhost//p"), want: &spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: "/p"}},
		{name: "old default", old: "runtime/default", want: &spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}},
		{name: "older default", old: "docker/default", want: &spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}},
		{name: "old unconfined", old: "unconfined", want: &spec.SecurityProfile{Type: spec.ProfileUnconfined}},
		{name: "old file", old: "localhost//p", want: &spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: "/p"}},
		{name: "both agree", now: profile(v1.SecurityProfile_Localhost, "/p"), old: "localhost//p", want: &spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: "/p"}},
		{name: "they differ in kind", now: profile(v1.SecurityProfile_Unconfined, ""), old: "runtime/default", wrong: "seccomp_profile_path"},
		{name: "they differ in file", now: profile(v1.SecurityProfile_Localhost, "/p"), old: "localhost//q", wrong: "seccomp_profile_path"},
		{name: "old file without a name", old: "localhost/", wrong: "seccomp (localhost)"},
		{name: "relative old file", old: "localhost/p", wrong: "seccomp (localhost)"},
		{name: "unknown old word", old: "RuntimeDefault", wrong: "seccomp_profile_path"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := goodContainer()
			r.Config.Linux = &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{Seccomp: tc.now, SeccompProfilePath: tc.old}}
			_, got, err := Container(r)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("error is %v, want one about %s", err, tc.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Security.Seccomp); diff != "" {
				t.Error(diff)
			}
		})
	}
	r := goodContainer()
	r.Config.Linux = &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{
		Apparmor: profile(v1.SecurityProfile_Localhost, "k8s-apparmor-example-deny-write"), ApparmorProfile: "localhost/k8s-apparmor-example-deny-write",
	}}
	if _, got, err := Container(r); err != nil || got.Security.AppArmor.Localhost != "k8s-apparmor-example-deny-write" {
		t.Errorf("AppArmor: %+v, %v", got.Security.AppArmor, err)
	}
	// critest's "should prefer new apparmor field".
	r.Config.Linux.SecurityContext.ApparmorProfile = "localhost/another"
	if _, got, err := Container(r); err != nil || got.Security.AppArmor.Localhost != "k8s-apparmor-example-deny-write" {
		t.Errorf("the older field says another: %v, %v", got.Security.AppArmor, err)
	}
}

// TestEverySignal goes both ways, for all of the CRI's.
func TestEverySignal(t *testing.T) {
	for n, name := range v1.Signal_name {
		var c check
		got := c.signal("f", v1.Signal(n))
		if c.err != nil || (got == "") != (n == 0) || strings.ContainsAny(got, "_") {
			t.Errorf("%s becomes %q, %v", name, got, c.err)
		}
		if back := signalBack(got); back != v1.Signal(n) {
			t.Errorf("%s becomes %q becomes %v", name, got, back)
		}
	}
	var c check
	for signal, want := range map[v1.Signal]string{
		v1.Signal_SIGNAL_SIGTERM: "SIGTERM", v1.Signal_SIGNAL_SIGRTMIN: "SIGRTMIN", v1.Signal_SIGNAL_SIGRTMINPLUS3: "SIGRTMIN+3",
		v1.Signal_SIGNAL_SIGRTMAXMINUS14: "SIGRTMAX-14", v1.Signal_SIGNAL_SIGRTMAX: "SIGRTMAX",
	} {
		if got := c.signal("f", signal); got != want {
			t.Errorf("%v is %q, want %q", signal, got, want)
		}
	}
	if signalBack("SIGNOTHING") != v1.Signal_SIGNAL_RUNTIME_DEFAULT {
		t.Error("an unknown name is a signal")
	}
}

func TestSysctlForms(t *testing.T) {
	for in, want := range map[string]string{
		"net.ipv4.ip_forward": "net.ipv4.ip_forward", "net/ipv4/ip_forward": "net.ipv4.ip_forward",
		"net/ipv4/conf/eth0.1/forwarding": "net.ipv4.conf.eth0/1.forwarding", "kernel.shm_rmid_forced": "kernel.shm_rmid_forced", "x": "x",
	} {
		if got := dotted(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

func TestCgroupParents(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "/kubepods/besteffort/pod1": "/kubepods/besteffort/pod1", "kubepods/pod1": "/kubepods/pod1", "/a//b/": "/a/b", "/": "/",
	} {
		r := goodSandbox()
		r.Config.Linux = &v1.LinuxPodSandboxConfig{CgroupParent: in}
		if got, err := Sandbox(r); err != nil || got.CgroupParent != want {
			t.Errorf("%q is %q, want %q (%v)", in, got.CgroupParent, want, err)
		}
	}
}

func TestGoodHostnames(t *testing.T) {
	for _, s := range []string{"", "a", "web-0", "WEB", "web-0.svc.cluster.local", "1", strings.Repeat("a", 63), strings.Repeat("a", 64)} {
		r := goodSandbox()
		r.Config.Hostname = s
		if got, err := Sandbox(r); err != nil || got.Hostname != s {
			t.Errorf("%q: %q, %v", s, got.Hostname, err)
		}
	}
}

func TestTimeouts(t *testing.T) {
	for in, want := range map[int64]time.Duration{0: 0, 30: 30 * time.Second, maxTimeout: maxTimeout * time.Second} {
		if _, got, err := Stop(&v1.StopContainerRequest{ContainerId: "c", Timeout: in}); err != nil || got != want || got < 0 {
			t.Errorf("%d s is %v, %v", in, got, err)
		}
	}
}

// TestLabelsAreKeptToTheByte, also odd ones.
func TestLabelsAreKeptToTheByte(t *testing.T) {
	labels := map[string]string{"": "", "a": "", "é": "日本\n\t", "x/y.z": strings.Repeat("v", 256<<10), "nul": "a\x00b"}
	r := goodSandbox()
	r.Config.Labels, r.Config.Annotations = labels, labels
	got, err := Sandbox(r)
	if err != nil {
		t.Fatal(err)
	}
	v := spec.SandboxView{Spec: spec.Sandbox{Request: got}}
	for _, back := range []map[string]string{SandboxItem(v).Labels, SandboxItem(v).Annotations, SandboxStatus(v).Status.Labels, SandboxStatus(v).Status.Annotations} {
		if diff := cmp.Diff(labels, back); diff != "" {
			t.Error(diff)
		}
	}
}

func TestContainerStates(t *testing.T) {
	started := &spec.Started{StartedAt: 20, Init: spec.Process{PID: 7}}
	for name, tc := range map[string]struct {
		facts spec.Facts
		want  *v1.ContainerStatus
	}{
		"created": {spec.Facts{}, &v1.ContainerStatus{State: v1.ContainerState_CONTAINER_CREATED}},
		"running": {spec.Facts{Started: started}, &v1.ContainerStatus{State: v1.ContainerState_CONTAINER_RUNNING, StartedAt: 20}},
		"completed": {spec.Facts{Started: started, Exit: &spec.Exit{FinishedAt: 30}},
			&v1.ContainerStatus{State: v1.ContainerState_CONTAINER_EXITED, StartedAt: 20, FinishedAt: 30, Reason: "Completed"}},
		"failed": {spec.Facts{Started: started, Exit: &spec.Exit{FinishedAt: 30, Code: 3}},
			&v1.ContainerStatus{State: v1.ContainerState_CONTAINER_EXITED, StartedAt: 20, FinishedAt: 30, ExitCode: 3, Reason: "Error"}},
		"out of memory": {spec.Facts{Started: started, Exit: &spec.Exit{FinishedAt: 30, Code: 137, OOMKilled: true}},
			&v1.ContainerStatus{State: v1.ContainerState_CONTAINER_EXITED, StartedAt: 20, FinishedAt: 30, ExitCode: 137, Reason: "OOMKilled"}},
		"never started": {spec.Facts{Status: spec.ContainerStatus{Lost: &spec.Exit{FinishedAt: 30, Code: 128, Reason: "StartError", Message: "no such file"}}},
			&v1.ContainerStatus{State: v1.ContainerState_CONTAINER_EXITED, FinishedAt: 30, ExitCode: 128, Reason: "StartError", Message: "no such file"}},
	} {
		view := spec.ContainerView{Facts: tc.facts, State: tc.facts.State()}
		got := ContainerStatus(view)
		for _, d := range []string{
			cmp.Diff(tc.want.State, got.State), cmp.Diff(tc.want.StartedAt, got.StartedAt), cmp.Diff(tc.want.FinishedAt, got.FinishedAt),
			cmp.Diff(tc.want.ExitCode, got.ExitCode), cmp.Diff(tc.want.Reason, got.Reason), cmp.Diff(tc.want.Message, got.Message),
		} {
			if d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
		if ContainerItem(view).State != tc.want.State {
			t.Errorf("%s: the list says %v", name, ContainerItem(view).State)
		}
	}
	if containerState("odd") != v1.ContainerState_CONTAINER_UNKNOWN || containerState(spec.ContainerUnknown) != v1.ContainerState_CONTAINER_UNKNOWN {
		t.Error("an odd state is not UNKNOWN")
	}
}

func TestInfoOfAContainer(t *testing.T) {
	v := spec.ContainerView{State: spec.ContainerRunning, Facts: spec.Facts{Started: &spec.Started{Init: spec.Process{PID: 7}}}}
	v.Spec.Profile.Reasons = []spec.Reason{{Field: "security.privileged", Text: "asked for"}}
	got, err := ContainerInfo(v, json.RawMessage(`{"ociVersion":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		PID         int
		RuntimeSpec struct{ OCIVersion string }
		Profile     spec.Profile
	}
	if err := json.Unmarshal([]byte(got["info"]), &doc); err != nil || doc.PID != 7 || doc.RuntimeSpec.OCIVersion != "1" || len(doc.Profile.Reasons) != 1 {
		t.Errorf("%+v, %v in %s", doc, err, got["info"])
	}
	v.State = spec.ContainerExited
	if got, err := ContainerInfo(v, nil); err != nil || !strings.Contains(got["info"], `"pid":0`) || !strings.Contains(got["info"], `"runtimeSpec":null`) {
		t.Errorf("exited: %s, %v", got, err)
	}
	if _, err := ContainerInfo(v, json.RawMessage(`{torn`)); err == nil {
		t.Error("a torn config.json is shown")
	}
	p := spec.SandboxView{}
	p.Status.Init = &spec.Process{PID: 9}
	if got, err := SandboxInfo(p); err != nil || !strings.Contains(got["info"], `"pid":9`) {
		t.Errorf("sandbox: %s, %v", got, err)
	}
}

// TestUserOfAnImage: the kubelet decides by it whether runAsNonRoot holds.
func TestUserOfAnImage(t *testing.T) {
	for user, want := range map[string]struct {
		uid  *int64
		name string
	}{
		"": {}, "0": {uid: new(int64)}, "1000": {uid: num(1000)}, "1000:50": {uid: num(1000)}, "www": {name: "www"}, "www:www": {name: "www"},
		"-1": {name: "-1"}, "2147483648": {name: "2147483648"}, "4294967296": {name: "4294967296"},
		"99999999999999999999": {name: "99999999999999999999"}, "0x0": {name: "0x0"}, ":0": {},
	} {
		got := Image(spec.Image{Config: spec.ImageConfig{User: user}})
		if (got.Uid == nil) != (want.uid == nil) || got.Uid.GetValue() != deref(want.uid) || got.Username != want.name {
			t.Errorf("user %q is %v, %q", user, got.Uid, got.Username)
		}
	}
}

func num(n int64) *int64 { return &n }

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func TestStatusAlwaysHasTheDefaultHandler(t *testing.T) {
	got := Status(spec.RuntimeStatus{Network: spec.Condition{Reason: "NoBridge", Message: "it is gone"}})
	want := &v1.StatusResponse{
		Status: &v1.RuntimeStatus{Conditions: []*v1.RuntimeCondition{
			{Type: "RuntimeReady"}, {Type: "NetworkReady", Reason: "NoBridge", Message: "it is gone"},
		}},
		RuntimeHandlers: []*v1.RuntimeHandler{{Features: &v1.RuntimeHandlerFeatures{}}},
		Features:        &v1.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsShowLittle(t *testing.T) {
	for _, s := range []string{strings.Repeat("x", 1<<20), "a\x1b[2Jb", "\xff"} {
		if got := Shown(s); len(got) > 300 || strings.Contains(got, "\x1b") || !utf8.ValidString(got) {
			t.Errorf("shows %q", got)
		}
	}
}
