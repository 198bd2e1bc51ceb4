package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
)

func configIn(t *testing.T) config.Config {
	c := config.Default()
	dir := t.TempDir()
	c.Root, c.Run, c.NetnsDir, c.Libexec = dir+"/root", dir+"/run", dir+"/netns", dir+"/bin"
	c.Network.Bridge, c.Network.NftTable, c.Network.Subnet, c.Network.Subnet6 = "rtdoc0", "rtdoc", "10.254.99.0/24", ""
	return c
}

// verdicts are the checks' verdicts, by name.
func verdicts(results []Result) map[string]Verdict {
	out := map[string]Verdict{}
	for _, r := range results {
		if out[r.Check] != Bad {
			out[r.Check] = r.Verdict
		}
	}
	return out
}

// TestLook: this machine has what the product needs, and what this test takes away is missed.
func TestLook(t *testing.T) {
	c := configIn(t)
	results := Look(t.Context(), c)
	got := verdicts(results)
	for check, want := range map[string]Verdict{
		"user": OK, "user namespaces": OK, "overlayfs": OK, "seccomp": OK, "pidfd": OK, "cgroups": OK,
		"programs": Bad, "idmapped mounts": Bad, "directory root": OK, "directory run": OK, "trust": Note,
	} {
		if got[check] != want {
			t.Errorf("%s is %q, want %q", check, got[check], want)
		}
	}
	for _, r := range results {
		if r.Text == "" || r.Verdict == Bad && r.Fix == "" {
			t.Errorf("%+v says too little", r)
		}
	}
}

func TestPrograms(t *testing.T) {
	c := configIn(t)
	if err := os.Mkdir(c.Libexec, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"runtimed-shim", "runtimed-monitor", "runtimed-init", "runtimed-unpack"} {
		if r := programs(c); r.Verdict != Bad || !strings.Contains(r.Text, name) {
			t.Errorf("%d programs: %+v", i, r)
		}
		if err := os.WriteFile(filepath.Join(c.Libexec, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if r := programs(c); r.Verdict != OK {
		t.Errorf("%+v", r)
	}
}

func TestDirectories(t *testing.T) {
	for _, d := range []struct {
		name string
		make func(path string) error
		want Verdict
		says string
	}{
		{"none", func(string) error { return nil }, OK, "is made"},
		{"private", func(p string) error { return os.Mkdir(p, 0o700) }, OK, "0700"},
		{"open", func(p string) error { os.Mkdir(p, 0o700); return os.Chmod(p, 0o755) }, Bad, "mode 0755"},
		{"for the group", func(p string) error { os.Mkdir(p, 0o700); return os.Chmod(p, 0o770) }, Bad, "mode 0770"},
		{"somebody's", func(p string) error { os.Mkdir(p, 0o700); return os.Chown(p, 4711, 0) }, Bad, "user 4711"},
		{"a file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, Bad, "no directory"},
		{"a link", func(p string) error { return os.Symlink("/tmp", p) }, Bad, "no directory"},
	} {
		c := configIn(t)
		if err := d.make(c.Root); err != nil {
			t.Fatal(err)
		}
		if r := directories(c)[0]; r.Verdict != d.want || !strings.Contains(r.Text, d.says) {
			t.Errorf("%s: %+v", d.name, r)
		}
	}
}

func TestTrust(t *testing.T) {
	c := configIn(t)
	if r := trust(c); r.Verdict != Note || !strings.Contains(r.Text, "every pull is refused") {
		t.Errorf("%+v", r)
	}
	c.Trust.Mode = "off"
	if r := trust(c); r.Verdict != Note || !strings.Contains(r.Text, "every image is taken unverified") {
		t.Errorf("%+v", r)
	}
}

func TestLacking(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cgroup.controllers", []byte("cpuset cpu memory\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		node cgroup.Node
		want string
	}{
		{cgroup.Node{}, "cpu,memory,pids,cpuset"},
		{cgroup.Node{Unified: dir}, "pids"},
		{cgroup.Node{Unified: dir, V1: []cgroup.Hierarchy{{Controllers: []string{"pids"}}}}, ""},
		{cgroup.Node{V1: []cgroup.Hierarchy{{Controllers: []string{"cpu", "cpuacct"}}, {Controllers: []string{"memory"}}, {Controllers: []string{"pids"}}, {Controllers: []string{"cpuset"}}}}, ""},
	} {
		if got := strings.Join(lacking(c.node), ","); got != c.want {
			t.Errorf("%+v lacks %q, want %q", c.node, got, c.want)
		}
	}
}

func TestNetworkIsTheDaemons(t *testing.T) {
	c := configIn(t)
	cfg, err := Network(c)
	if err != nil || cfg.Bridge != "rtdoc0" || cfg.Table != "rtdoc" || len(cfg.Subnets) != 1 || cfg.NetnsDir != c.NetnsDir || cfg.Validate() != nil {
		t.Errorf("%+v, %v", cfg, err)
	}
	c.Network.Subnet6 = "nonsense"
	if _, err := Network(c); err == nil {
		t.Error("nonsense is a subnet")
	}
	if r := networks(t.Context(), c); len(r) != 1 || r[0].Verdict != Bad {
		t.Errorf("%+v", r)
	}
	if _, err := Leaks(t.Context(), c); err == nil {
		t.Error("the leak check works with nonsense")
	}
}

func TestExisting(t *testing.T) {
	dir := t.TempDir()
	if got := existing(dir + "/a/b/c"); got != dir {
		t.Errorf("%s", got)
	}
}

func TestForwardingIsTheDaemonsToTurnOn(t *testing.T) {
	off := network.Finding{What: "net.ipv4.ip_forward is off", Why: "w", Fix: "f"}
	if r := finding(off, false); r.Verdict != Note || r.Fix != "" {
		t.Errorf("before the first start: %+v", r)
	}
	if r := finding(off, true); r.Verdict != Bad || r.Fix != "f" {
		t.Errorf("beside a daemon: %+v", r)
	}
	if r := finding(network.Finding{What: "bridge x has address y", Why: "w", Fix: "f"}, false); r.Verdict != Bad {
		t.Errorf("another finding: %+v", r)
	}
}
