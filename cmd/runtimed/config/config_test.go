package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const docs = "../../../docs/configuration.md"

func TestDocsAreTheTable(t *testing.T) {
	var b strings.Builder
	if err := WriteDocs(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(docs), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(docs, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), b.String()); d != "" {
		t.Errorf("docs/configuration.md differs from the keys: run go test ./cmd/runtimed/config -run Docs -update\n%s", d)
	}
}

func TestExampleIsRight(t *testing.T) {
	c, err := Parse("example", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if c.Trust.Mode != "off" || c.Registry["docker.io"].Mirrors[0] != "mirror.example:5000" || c.Hosts()["mirror.example:5000"].CA == "" {
		t.Errorf("example is read as %+v", c)
	}
}

// TestEveryKeyIsDescribed holds the struct and the table together.
func TestEveryKeyIsDescribed(t *testing.T) {
	var walk func(typ reflect.Type, prefix string)
	seen := map[string]bool{}
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			tag := f.Tag.Get("toml")
			if tag == "-" {
				continue
			}
			name := join(prefix, tag)
			switch f.Type.Kind() {
			case reflect.Struct:
				walk(f.Type, name)
			case reflect.Map:
				walk(f.Type.Elem(), name+".*")
			default:
				seen[name] = true
				if find(name) == nil {
					t.Errorf("key %s has no description", name)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	for _, s := range Sections {
		for _, k := range s.Keys {
			if !seen[k.Name] {
				t.Errorf("described key %s does not exist", k.Name)
			}
			if !strings.HasSuffix(k.Comment, ".") || strings.Contains(k.Comment, "\n") {
				t.Errorf("comment of %s is no sentence: %q", k.Name, k.Comment)
			}
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if p := Default().validate(); len(p) > 0 {
		t.Error(Problems(p))
	}
}

// TestWriteReadsBack: what show prints is a file with the same meaning.
func TestWriteReadsBack(t *testing.T) {
	for name, text := range map[string]string{"defaults": "version = 1\n", "example": example} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("a.toml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := c.Write(&b); err != nil {
				t.Fatal(err)
			}
			again, err := Parse("b.toml", []byte(b.String()))
			if err != nil {
				t.Fatalf("%v in\n%s", err, b.String())
			}
			again.File, again.Lines = c.File, c.Lines
			if again.Registry == nil {
				again.Registry = c.Registry
			}
			for host, r := range again.Registry {
				if len(r.Mirrors) == 0 {
					r.Mirrors = nil
					again.Registry[host] = r
				}
			}
			if d := cmp.Diff(c, again); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWriteSaysWhereFrom(t *testing.T) {
	c, err := Parse("/etc/x.toml", []byte("version = 1\n\n[log]\nlevel = \"debug\"\n[registry.\"docker.io\"]\nplain_http = true\n"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# From /etc/x.toml:4.\nlevel = 'debug'", "# From the default.\nformat = 'text'",
		"# From /etc/x.toml:6.\nplain_http = true", "# From the default.\nmirrors = []", "[registry.'docker.io']"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "#") && len(line) > width+20 {
			t.Errorf("long comment: %s", line)
		}
	}
}

// bad are files with one mistake each; want are parts of the error.
var bad = map[string]struct{ text, want string }{
	"empty":                 {"", "f.toml: version: is missing: begin the file with version = 1"},
	"no version":            {"root = \"/x\"\n", "version: is missing"},
	"other version":         {"version = 2\n", "f.toml:1: version: 2 is unknown"},
	"not TOML":              {"version = 1\nroot = \n", "f.toml:2: "},
	"twice":                 {"version = 1\nroot = \"/a\"\nroot = \"/b\"\n", "f.toml:3: "},
	"NUL":                   {"version = 1\n\x00\n", "f.toml:2: "},
	"not UTF-8":             {"version = 1\nroot = \"\xff\"\n", "f.toml:2: "},
	"open string":           {"version = 1\nroot = \"/a\n", "f.toml:2: "},
	"unknown top":           {"version = 1\n\nrot = \"/a\"\n", "f.toml:3: rot: there is no such key; is root meant?"},
	"unknown in table":      {"version = 1\n[network]\nbrigde = \"b\"\n", "f.toml:3: network.brigde: there is no such key; is network.bridge meant?"},
	"wrong table":           {"version = 1\nbridge = \"b\"\n", "f.toml:2: bridge: there is no such key; is network.bridge meant?"},
	"unknown table":         {"version = 1\n[nonsense]\nx = \"x\"\n", "f.toml:2: nonsense: there is no such key; `runtimed config show` lists all"},
	"unknown of registry":   {"version = 1\n[registry.\"docker.io\"]\nmirror = []\n", `f.toml:3: registry."docker.io".mirror: there is no such key; is registry.*.mirrors meant?`},
	"inline table":          {"version = 1\nlog = {level = \"info\", fromat = \"text\"}\n", "f.toml:2: log.fromat: there is no such key; is log.format meant?"},
	"dotted key":            {"version = 1\nlog.lvel = \"info\"\n", "f.toml:2: log.lvel: there is no such key; is log.level meant?"},
	"string for number":     {"version = 1\n[network]\nmtu = \"1500\"\n", `f.toml:3: network.mtu: wants a whole number, not the string "1500"`},
	"number for string":     {"version = 1\nroot = 7\n", "f.toml:2: root: wants a string in quotes, not the number 7"},
	"fraction":              {"version = 1\n[network]\nmtu = 1.5\n", "network.mtu: wants a whole number, not the number 1.5"},
	"string for list":       {"version = 1\n[image]\nauth_files = \"/a\"\n", "image.auth_files: wants a list"},
	"number in list":        {"version = 1\n[image]\nauth_files = [\"/a\", 1]\n", "f.toml:3: image.auth_files: wants a string in quotes, not the number 1"},
	"negative id":           {"version = 1\n[socket]\nallowed_uids = [-1]\n", "socket.allowed_uids: wants a whole number from 0 to 4294967295, not the number -1"},
	"id too large":          {"version = 1\n[userns]\nfirst_id = 4294967296\n", "userns.first_id: wants a whole number from 0"},
	"table for string":      {"version = 1\n[root]\na = 1\n", "f.toml:2: root: wants a string in quotes, not a table"},
	"string for table":      {"version = 1\nlog = \"info\"\n", "f.toml:2: log: wants a table"},
	"string for registries": {"version = 1\nregistry = \"docker.io\"\n", "registry: wants a table"},
	"string for registry":   {"version = 1\n[registry]\n\"docker.io\" = \"m\"\n", `f.toml:3: registry."docker.io": wants a table`},
	"tables":                {"version = 1\n[[log]]\nlevel = \"info\"\n", "f.toml:2: log: wants a table, not a list"},
	"string for bool":       {"version = 1\n[registry.a]\nplain_http = \"yes\"\n", "wants true or false"},
	"date":                  {"version = 1\nroot = 2020-01-01\n", "root: wants a string in quotes, not a date or time"},

	"relative root":       {"version = 1\nroot = \"data\"\n", "f.toml:2: root: \"data\" is not an absolute, clean path"},
	"dirty root":          {"version = 1\nroot = \"/a/../b\"\n", "root: \"/a/../b\" is not"},
	"root is /":           {"version = 1\nroot = \"/\"\n", "f.toml:2: root:"},
	"root with a colon":   {"version = 1\nroot = \"/a:b\"\n", "which overlayfs takes for its own"},
	"root with a newline": {"version = 1\nroot = \"/a\\nb\"\n", "root: \"/a\\nb\" is not"},
	"long run":            {"version = 1\nrun = \"/" + strings.Repeat("r", 70) + "\"\n", "f.toml:2: run: has 71 bytes: at most 70"},
	"run in root":         {"version = 1\nroot = \"/a\"\nrun = \"/a/run\"\n", "f.toml:3: run: /a/run and root, /a, lie within one another"},
	"root in run":         {"version = 1\nroot = \"/a/b\"\nrun = \"/a\"\n", "lie within one another"},
	"root is run":         {"version = 1\nroot = \"/a\"\nrun = \"/a\"\n", "lie within one another"},
	"netns in run":        {"version = 1\nnetns_dir = \"/run/runtimed/netns\"\n", "netns_dir: /run/runtimed/netns lies within root or run"},
	"relative libexec":    {"version = 1\nlibexec = \"bin\"\n", "libexec: \"bin\" is not"},
	"nobody":              {"version = 1\n[socket]\nallowed_uids = [0, 65534]\n", "f.toml:3: socket.allowed_uids: 65534 stands for every user"},
	"root cgroup":         {"version = 1\n[cgroup]\nroot = \"/\"\n", "f.toml:3: cgroup.root: \"/\" is not"},
	"relative cgroup":     {"version = 1\n[cgroup]\nroot = \"runtimed\"\n", "cgroup.root: \"runtimed\" is not"},
	"cgroup with ..":      {"version = 1\n[cgroup]\nroot = \"/a/../b\"\n", "cgroup.root:"},
	"long bridge":         {"version = 1\n[network]\nbridge = \"abcdefghijklmnop\"\n", "f.toml:3: network.bridge:"},
	"empty bridge":        {"version = 1\n[network]\nbridge = \"\"\n", "network.bridge:"},
	"bad table":           {"version = 1\n[network]\nnft_table = \"a b\"\n", "network.nft_table:"},
	"bad subnet":          {"version = 1\n[network]\nsubnet = \"10.0.0.0\"\n", "f.toml:3: network.subnet: subnet \"10.0.0.0\" is not in CIDR"},
	"host bits":           {"version = 1\n[network]\nsubnet = \"10.0.0.1/16\"\n", "network.subnet: subnet 10.0.0.1/16 has bits beyond"},
	"IPv6 in subnet":      {"version = 1\n[network]\nsubnet = \"fd00::/64\"\n", "network.subnet: fd00::/64 is of the other IP version"},
	"IPv4 in subnet6":     {"version = 1\n[network]\nsubnet6 = \"10.0.0.0/16\"\n", "network.subnet6: 10.0.0.0/16 is of the other IP version"},
	"no subnet":           {"version = 1\n[network]\nsubnet = \"\"\nsubnet6 = \"\"\n", "f.toml:3: network.subnet: is empty, and so is"},
	"network mode":        {"version = 1\n[network]\nmode = \"host\"\n", `network.mode: "host" is not one of ["builtin" "cni"]`},
	"relative conf dir":   {"version = 1\n[network.cni]\nconf_dir = \"net.d\"\n", "f.toml:3: network.cni.conf_dir:"},
	"no plugin dir":       {"version = 1\n[network.cni]\nbin_dirs = []\n", "f.toml:3: network.cni.bin_dirs: is empty"},
	"relative plugin dir": {"version = 1\n[network.cni]\nbin_dirs = [\"bin\"]\n", "network.cni.bin_dirs:"},
	"cache in run":        {"version = 1\n[network.cni]\ncache_dir = \"/run/runtimed/cni\"\n", "network.cni.cache_dir: /run/runtimed/cni lies within run"},
	"relative template":   {"version = 1\n[network.cni]\nconf_template = \"t\"\n", "network.cni.conf_template:"},
	"no ADD time":         {"version = 1\n[network.cni]\nadd_timeout = 0\n", "network.cni.add_timeout: 0 is out of range: 1 to 3600"},
	"no DEL time":         {"version = 1\n[network.cni]\ndel_timeout = -1\n", "network.cni.del_timeout:"},
	"no interval":         {"version = 1\n[network.cni]\nstatus_interval = 0\n", "network.cni.status_interval:"},
	"small MTU":           {"version = 1\n[network]\nmtu = 1000\n", "f.toml:3: network.mtu:"},
	"low ids":             {"version = 1\n[userns]\nfirst_id = 65536\n", "f.toml:3: userns.first_id: 65536 is not"},
	"odd ids":             {"version = 1\n[userns]\nfirst_id = 1073741825\n", "userns.first_id:"},
	"odd size":            {"version = 1\n[userns]\nsize = 1000\n", "userns.size:"},
	"no ranges":           {"version = 1\n[userns]\ncount = 0\n", "userns.count: is 0"},
	"wrapping ranges":     {"version = 1\n[userns]\nfirst_id = 4294901760\ncount = 2\n", "f.toml:4: userns.count: 2 ranges of 65536"},
	"policy":              {"version = 1\n[security]\npolicy = \"none\"\n", `security.policy: "none" is not one of ["auto" "cri"]`},
	"seccomp root":        {"version = 1\n[security]\nseccomp_root = \"seccomp\"\n", "security.seccomp_root:"},
	"capability":          {"version = 1\n[security]\ncapabilities = [\"CAP_FLY\"]\n", `security.capabilities: "CAP_FLY" is not the name`},
	"auth file":           {"version = 1\n[image]\nauth_files = [\"~/.docker/config.json\"]\n", "image.auth_files:"},
	"no parallel":         {"version = 1\n[image]\nparallel = 0\n", "image.parallel: 0 is out of range: 1 to 64"},
	"no time":             {"version = 1\n[image]\nprogress_timeout = 0\n", "image.progress_timeout:"},
	"layer bytes":         {"version = 1\n[image]\nmax_layer_bytes = -1\n", "image.max_layer_bytes:"},
	"layer entries":       {"version = 1\n[image]\nmax_layer_entries = 0\n", "image.max_layer_entries:"},
	"layer ratio":         {"version = 1\n[image]\nmax_layer_ratio = 0\n", "image.max_layer_ratio:"},
	"depth":               {"version = 1\n[image]\nmax_path_depth = 0\n", "image.max_path_depth:"},
	"trust":               {"version = 1\n[trust]\nmode = \"on\"\n", "f.toml:3: trust.mode:"},
	"level":               {"version = 1\n[log]\nlevel = \"loud\"\n", "f.toml:3: log.level: \"loud\" is not one of"},
	"format":              {"version = 1\n[log]\nformat = \"xml\"\n", "log.format:"},
	"registry URL":        {"version = 1\n[registry.\"https://docker.io\"]\nplain_http = true\n", `f.toml:2: registry."https://docker.io":`},
	"mirror URL":          {"version = 1\n[registry.\"docker.io\"]\nmirrors = [\"http://m\"]\n", `f.toml:2: registry."docker.io":`},
	"relative helper":     {"version = 1\n[registry.\"a.example\"]\ncredential_helper = \"x\"\n", `registry."a.example":`},
}

func TestBadFiles(t *testing.T) {
	for name, tc := range bad {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.toml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, tc.want)
			}
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("kind of %v is not InvalidArgument", err)
			}
			var all Problems
			if !errors.As(err, &all) || len(all) != 1 {
				t.Errorf("%d problems, want 1:\n%v", len(all), err)
			}
		})
	}
}

func TestAllProblemsAtOnceInOrder(t *testing.T) {
	_, err := Parse("f.toml", []byte("version = 1\n[log]\nlevel = \"x\"\nformat = \"y\"\n[trust]\nmode = \"z\"\n"))
	var all Problems
	if !errors.As(err, &all) || len(all) != 3 || all[0].Line != 3 || all[1].Line != 4 || all[2].Line != 6 {
		t.Errorf("problems are %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c, err := Load(write("good", example, 0o644))
	if err != nil || c.Root != "/srv/runtimed" || c.Run != "/run/runtimed" || c.Lines["root"] != 2 {
		t.Errorf("Load: %+v, %v", c, err)
	}
	if _, err := Load(write("open", example, 0o664)); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("group-writable file: %v", err)
	}
	if _, err := Load(write("long", "#"+strings.Repeat("x", maxFile), 0o600)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("long file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory is read")
	}
	if os.Geteuid() == 0 {
		path := write("foreign", example, 0o600)
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "belongs neither") {
			t.Errorf("somebody's file: %v", err)
		}
	}
}

func TestLibexecDir(t *testing.T) {
	c := Default()
	dir, err := c.LibexecDir()
	if err != nil || !filepath.IsAbs(dir) {
		t.Errorf("default: %q, %v", dir, err)
	}
	c.Libexec = "/opt/x"
	if dir, _ := c.LibexecDir(); dir != "/opt/x" {
		t.Errorf("set: %q", dir)
	}
}

// FuzzParse: no file makes it panic, and what it accepts it writes so that it reads back.
func FuzzParse(f *testing.F) {
	f.Add(example)
	for _, tc := range bad {
		f.Add(tc.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", []byte(text))
		if err != nil {
			return
		}
		var b strings.Builder
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("g", []byte(b.String())); err != nil {
			t.Fatalf("%v\n%s\n---\n%s", err, text, b.String())
		}
	})
}

// TestAllAtOnce: keys of a wrong type do not hide what else is wrong.
func TestAllAtOnce(t *testing.T) {
	_, err := Parse("f", []byte("version = 1\nroot = \"rel\"\n[network]\nmtu = \"a\"\nbridg = \"x\"\n[trust]\nmode = \"maybe\"\n"))
	for _, want := range []string{"f:2: root:", "f:4: network.mtu:", "f:5: network.bridg:", "f:7: trust.mode:"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("lacks %q, or has it twice: %v", want, err)
		}
	}
	if _, err := Parse("f", []byte("version = \"1\"\n")); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("one mistake is %v", err)
	}
}
