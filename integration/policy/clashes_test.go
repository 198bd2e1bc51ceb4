package policy

import (
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

// pod runs a pod whose users are those that mode says: nil says nothing.
func pod(d *daemontest.Daemon, name string, users *v1.UserNamespace, edits ...func(*v1.PodSandboxConfig)) (string, *v1.PodSandboxConfig) {
	p := d.PodConfig(name)
	p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
	for _, e := range edits {
		e(p)
	}
	return d.RunPod(p), p
}

var nodeUsers = &v1.UserNamespace{Mode: v1.NamespaceMode_NODE}

// What a request leaves open, or says in a way that others read otherwise: /proc/self/status shows what became of it.
func TestSeccompIsWhatTheRequestSays(t *testing.T) {
	d := started(t, cri)
	const local = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO"}]}`
	file := d.Dir + "/filter.json"
	if err := os.WriteFile(file, []byte(local), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	id, p := pod(d, "seccomp", nodeUsers)
	privileged, pp := pod(d, "privileged", nodeUsers, func(p *v1.PodSandboxConfig) { p.Linux.SecurityContext.Privileged = true })
	for name, c := range map[string]struct {
		privileged bool
		profile    *v1.SecurityProfile
		old        string
		want       string
	}{
		"nothing":                 {want: "0"},
		"an empty profile":        {profile: &v1.SecurityProfile{}, want: "2"},
		"runtime default":         {profile: &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}, want: "2"},
		"unconfined":              {profile: &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Unconfined}, want: "0"},
		"a file":                  {profile: &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: file}, want: "2"},
		"the old field":           {old: "runtime/default", want: "2"},
		"the old field, none":     {old: "unconfined", want: "0"},
		"privileged":              {privileged: true, want: "0"},
		"privileged, default":     {privileged: true, profile: &v1.SecurityProfile{}, want: "0"},
		"privileged, with a file": {privileged: true, profile: &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: file}, want: "0"},
	} {
		ctr := d.ContainerConfig(strings.ReplaceAll(name, " ", "-"), "cat /proc/self/status; touch /tmp/x; chmod 700 /tmp/x && echo changed")
		sc := ctr.Linux.SecurityContext
		//lint:ignore SA1019 clients still send it
		sc.Privileged, sc.Seccomp, sc.SeccompProfilePath = c.privileged, c.profile, c.old
		in, config := id, p
		if c.privileged {
			in, config = privileged, pp
		}
		got, _ := output(t, d, in, config, ctr)
		if field(got, "Seccomp:") != c.want {
			t.Errorf("%s: %s", name, field(got, "Seccomp:"))
		}
		if blocked := !strings.Contains(got, "changed"); blocked != (name == "a file") {
			t.Errorf("%s: chmod is blocked: %v", name, blocked)
		}
	}
}

func TestUsersAreWhatTheRequestSays(t *testing.T) {
	d := started(t, cri)
	maps := []*v1.IDMapping{{HostId: 3000000, ContainerId: 0, Length: 65536}}
	for name, c := range map[string]struct {
		users *v1.UserNamespace
		host  bool
		want  string
	}{
		"NODE":                {users: nodeUsers, want: "0 0 4294967295"},
		"nothing":             {want: "0 * 65536"}, // POD, as the CRI says
		"POD":                 {users: &v1.UserNamespace{Mode: v1.NamespaceMode_POD}, want: "0 * 65536"},
		"POD with maps":       {users: &v1.UserNamespace{Mode: v1.NamespaceMode_POD, Uids: maps, Gids: maps}, want: "0 3000000 65536"},
		"nothing on the host": {host: true, want: "0 0 4294967295"},
	} {
		id, p := pod(d, strings.ReplaceAll(name, " ", "-"), c.users, func(p *v1.PodSandboxConfig) {
			if c.host {
				p.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
			}
		})
		ctr := d.ContainerConfig("main", "cat /proc/self/uid_map")
		ctr.Linux.SecurityContext.NamespaceOptions = p.Linux.SecurityContext.NamespaceOptions
		got, _ := output(t, d, id, p, ctr)
		f := strings.Fields(got)
		if len(f) == 3 && strings.Contains(c.want, "*") && f[1] != "0" {
			f[1] = "*"
		}
		if strings.Join(f, " ") != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A pod with users of its own on the node's network sees the network, has no power over it, and keeps its own everything else.
func TestUsersOnTheNodesNetwork(t *testing.T) {
	d := started(t, "")
	maps := []*v1.IDMapping{{HostId: 3000000, ContainerId: 0, Length: 65536}}
	for name, users := range map[string]*v1.UserNamespace{
		"mapped": {Mode: v1.NamespaceMode_POD, Uids: maps, Gids: maps}, "pooled": {Mode: v1.NamespaceMode_POD},
	} {
		id, p := pod(d, name, users, func(p *v1.PodSandboxConfig) { p.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE })
		c := d.ContainerConfig("main", daemontest.Sleep)
		c.Linux.SecurityContext.NamespaceOptions = p.Linux.SecurityContext.NamespaceOptions
		c.Linux.SecurityContext.Capabilities.AddCapabilities = []string{"NET_ADMIN", "SYS_ADMIN"}
		c.Linux.SecurityContext.MaskedPaths = []string{"/sys/firmware"}
		ctr := d.RunContainer(id, p, c)
		if got := d.Exec(ctr, "readlink /proc/self/ns/net"); got != sh(t, "readlink /proc/self/ns/net") {
			t.Errorf("%s: network %s", name, got)
		}
		if got := strings.Fields(d.Exec(ctr, "cat /proc/self/uid_map")); got[1] == "0" || got[2] != "65536" {
			t.Errorf("%s: users %v", name, got)
		}
		if got := d.Exec(ctr, "ls /sys/class/net"); got != sh(t, "ls /sys/class/net") {
			t.Errorf("%s: /sys shows the network of %q", name, got)
		}
		if got := d.Exec(ctr, "ip link set lo mtu 1400 2>/dev/null || echo no; touch /sys/x 2>/dev/null || echo no; ls /sys/firmware | wc -l; cat /sys/kernel/debug/* 2>/dev/null | head -c1"); got != "no\nno\n0" {
			t.Errorf("%s: power over the node's network or /sys: %q", name, got)
		}
		if got := d.Exec(ctr, "mount -o remount,rw /sys 2>/dev/null || echo no; mount -t sysfs x /mnt 2>/dev/null || echo no"); got != "no\nno" {
			t.Errorf("%s: /sys can be changed: %q", name, got)
		}
	}
}

// A set-user-id program has its owner's rights unless the request takes that away, whoever the users are.
func TestSetUserID(t *testing.T) {
	d := started(t, cri)
	body, err := os.ReadFile(daemontest.Go(t, "./integration/e2e/probe"))
	if err != nil {
		t.Fatal(err)
	}
	d.Registry.MustPush(t, "suid:1", registrytest.Image{
		Config: registrytest.Config{User: "1000", Entrypoint: []string{"/probe", "euid"}},
		Layers: []registrytest.Layer{{Files: []registrytest.File{{Name: "probe", Mode: 0o4755, Body: body}}}},
	})
	r, err := d.Conn().Images.PullImage(daemontest.Ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: d.Registry.Ref("suid:1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.RemoveAll()
		d.Conn().Images.RemoveImage(daemontest.Ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: r.ImageRef}})
	})
	for mode, users := range map[string]*v1.UserNamespace{"node": nodeUsers, "pod": nil} {
		id, p := pod(d, "suid-"+mode, users)
		for nnp, want := range map[bool]string{false: "0", true: "1000"} {
			c := d.ContainerConfig("suid-"+want, "")
			c.Image.Image, c.Command = r.ImageRef, nil
			c.Linux.SecurityContext.NoNewPrivs = nnp
			if got, s := output(t, d, id, p, c); got != want {
				t.Errorf("users of the %s, no_new_privs %v: %q, ended with %d", mode, nnp, got, s.ExitCode)
			}
		}
	}
}

// A list of paths that the request gives is taken as it is; an empty one is the node's own.
func TestPathsAreWhatTheRequestSays(t *testing.T) {
	d := started(t, cri)
	id, p := pod(d, "paths", nodeUsers)
	const script = "cat /proc/kcore >/dev/null 2>&1 | head -c1; test -s /proc/timer_list && echo timers; " +
		"grep -q '^[0-9].* /proc/sys ro' /proc/self/mountinfo && echo sys; grep -q ' /etc/passwd ro' /proc/self/mountinfo && echo passwd"
	given := d.ContainerConfig("given", script)
	given.Linux.SecurityContext.MaskedPaths, given.Linux.SecurityContext.ReadonlyPaths = []string{"/proc/timer_list"}, []string{"/etc/passwd"}
	if got, _ := output(t, d, id, p, given); got != "passwd" {
		t.Errorf("lists of its own: %q", got)
	}
	if got, _ := output(t, d, id, p, d.ContainerConfig("empty", script)); got != "sys" {
		t.Errorf("no lists: %q", got)
	}
}

func TestGroups(t *testing.T) {
	d := started(t, cri)
	id, p := pod(d, "groups", nodeUsers)
	for name, c := range map[string]struct {
		policy v1.SupplementalGroupsPolicy
		more   []int64
		want   string
	}{
		"merge":       {v1.SupplementalGroupsPolicy_Merge, nil, "1000 2000"},
		"merge-more":  {v1.SupplementalGroupsPolicy_Merge, []int64{50000}, "1000 2000 50000"},
		"strict":      {v1.SupplementalGroupsPolicy_Strict, nil, "1000"},
		"strict-more": {v1.SupplementalGroupsPolicy_Strict, []int64{50000}, "1000 50000"},
	} {
		ctr := d.ContainerConfig(name, "grep ^Groups: /proc/self/status")
		sc := ctr.Linux.SecurityContext
		sc.RunAsUser, sc.SupplementalGroups, sc.SupplementalGroupsPolicy = &v1.Int64Value{Value: 1000}, c.more, c.policy
		got, s := output(t, d, id, p, ctr)
		if strings.Join(strings.Fields(got)[1:], " ") != c.want {
			t.Errorf("%s: %q", name, got)
		}
		u := s.GetUser().GetLinux()
		if u.GetUid() != 1000 || u.GetGid() != 1000 || len(u.GetSupplementalGroups()) != len(strings.Fields(c.want)) {
			t.Errorf("%s: its status says %v", name, u)
		}
	}
}

// What cannot be, fails where the caller looks: at the creation.
func TestRefusals(t *testing.T) {
	d := started(t, cri)
	id, _ := pod(d, "refusals", nodeUsers)
	c := d.ContainerConfig("apparmor", "true")
	c.Linux.SecurityContext.Apparmor = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: "not-loaded"}
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err == nil {
		refused(t, d, id, c, codes.InvalidArgument, "not loaded")
	} else {
		refused(t, d, id, c, codes.FailedPrecondition, "AppArmor")
	}
	c = d.ContainerConfig("seccomp", "true")
	c.Linux.SecurityContext.Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_Localhost, LocalhostRef: d.Dir + "/none.json"}
	refused(t, d, id, c, codes.InvalidArgument, "none.json")
	c = d.ContainerConfig("group", "true")
	c.Linux.SecurityContext.RunAsGroup = &v1.Int64Value{Value: 5}
	refused(t, d, id, c, codes.InvalidArgument, "run_as_group")
	c = d.ContainerConfig("user", "true")
	c.Linux.SecurityContext.RunAsUsername = "nobody-here"
	refused(t, d, id, c, codes.InvalidArgument, "nobody-here")
	c = d.ContainerConfig("mount", "true")
	c.Mounts = []*v1.Mount{{HostPath: d.Dir + "/none", ContainerPath: "/m"}}
	refused(t, d, id, c, codes.NotFound, "none")
	for name, maps := range map[string][]*v1.IDMapping{
		"twice":   {{HostId: 3000000, Length: 65536}, {HostId: 4000000, Length: 65536}},
		"no-root": {{HostId: 3000000, ContainerId: 1, Length: 65536}},
	} {
		p := d.PodConfig(name)
		p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &v1.UserNamespace{Mode: v1.NamespaceMode_POD, Uids: maps, Gids: maps}
		if _, err := d.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: p}); err == nil {
			t.Errorf("id maps %v were taken", maps)
		}
	}
}

// Status says what this node can, from probes: the default handler by its empty name among them.
func TestFeatures(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Config: cri})
	s, err := d.Conn().Runtime.Status(daemontest.Ctx(t), &v1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Features; !f.GetSupplementalGroupsPolicy() || !f.GetMountOptions() || !f.GetUserNamespacesHostNetwork() {
		t.Errorf("features: %v", f)
	}
	if len(s.RuntimeHandlers) != 1 || s.RuntimeHandlers[0].Name != "" || !s.RuntimeHandlers[0].Features.GetRecursiveReadOnlyMounts() || !s.RuntimeHandlers[0].Features.GetUserNamespaces() {
		t.Errorf("handlers: %v", s.RuntimeHandlers)
	}
}
