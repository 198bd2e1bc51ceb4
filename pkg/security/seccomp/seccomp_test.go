package seccomp

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func allows(f *specs.LinuxSeccomp, name string) bool {
	return slices.ContainsFunc(f.Syscalls, func(s specs.LinuxSyscall) bool {
		return s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, name)
	})
}

func TestDefaultProfile(t *testing.T) {
	def := spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}
	f, err := Compile(def, []string{"CAP_CHOWN"})
	if err != nil {
		t.Fatal(err)
	}
	if f.DefaultAction != specs.ActErrno || !allows(f, "read") || allows(f, "mount") || allows(f, "bpf") || allows(f, "io_uring_setup") {
		t.Error("the default must allow what programs need, and not what escapes are made of")
	}
	if len(f.Architectures) != 1 {
		t.Errorf("architectures %v: the native one alone", f.Architectures)
	}
	admin, err := Request{Profile: def, Capabilities: []string{"CAP_SYS_ADMIN"}, ImageArchitecture: "386"}.Filter()
	if err != nil {
		t.Fatal(err)
	}
	if !allows(admin, "mount") {
		t.Error("beside CAP_SYS_ADMIN the default allows mount")
	}
	if !slices.Contains(admin.Architectures, specs.ArchX86) {
		t.Errorf("an image for 386 needs its architecture: %v", admin.Architectures)
	}
}

func TestUnconfinedIsSaidAloud(t *testing.T) {
	if f, err := Compile(spec.SecurityProfile{Type: spec.ProfileUnconfined}, nil); f != nil || err != nil {
		t.Error(f, err)
	}
	if _, err := Compile(spec.SecurityProfile{}, nil); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no profile at all became %v", err)
	}
}

func TestLocalProfile(t *testing.T) {
	dir := t.TempDir()
	put := func(name, body string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		ok         bool
	}{
		{"OCI form", put("oci", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`), true},
		{"with architectures", put("arch", `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64","SCMP_ARCH_X86"]}`), true},
		{"argument", put("arg", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}`), true},
		{"empty name", "", false},
		{"relative", "profile.json", false},
		{"not clean", dir + "/../" + filepath.Base(dir) + "/oci", false},
		{"missing", dir + "/nope", false},
		{"directory", dir, false},
		{"FIFO", fifo, false},
		{"device", "/dev/zero", false},
		{"too large", put("large", strings.Repeat(" ", maxProfile+1)), false},
		{"empty file", put("empty", ""), false},
		{"not JSON", put("junk", "unconfined"), false},
		{"no default action", put("none", `{}`), false},
		{"unknown default action", put("def", `{"defaultAction":"SCMP_ACT_SMILE"}`), false},
		{"unknown action", put("act", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"x"}]}`), false},
		{"unknown architecture", put("noarch", `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_Z80"]}`), false},
		{"seventh argument", put("seventh", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}`), false},
		{"a rule without a name", put("noname", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]}`), false},
		{"unknown key", put("key", `{"defaultAction":"SCMP_ACT_ALLOW","syscall":[]}`), false},
		{"unknown key in a rule", put("rkey", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"actoin":"SCMP_ACT_ERRNO","action":"SCMP_ACT_ERRNO"}]}`), false},
		{"key twice", put("twice", `{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW"}`), false},
		{"key twice in another case", put("case", `{"defaultAction":"SCMP_ACT_ERRNO","DefaultAction":"SCMP_ACT_ALLOW"}`), false},
		{"two documents", put("two", `{"defaultAction":"SCMP_ACT_ERRNO"}{"defaultAction":"SCMP_ACT_ALLOW"}`), false},
		{"null", put("null", `null`), false},
		{"array", put("array", `[]`), false},
		{"deep", put("deep", strings.Repeat("[", 100)+strings.Repeat("]", 100)), false},
		{"errno that wraps to success", put("wrap", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65536}`), false},
		{"errno of a rule that wraps", put("rwrap", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":131072}]}`), false},
		{"ENOSYS", put("enosys", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38}`), true},
		{"unknown flag", put("flag", `{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_X"]}`), false},
		{"flag", put("log", `{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}`), true},
		{"a call of a kernel to come", put("new", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["teleport2"],"action":"SCMP_ACT_ERRNO"}]}`), true},
		{"no name of a call", put("badname", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir "],"action":"SCMP_ACT_ERRNO"}]}`), false},
		{"docker's form", put("docker", `{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","comment":"c","includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390x"]}}]}`), true},
		{"critest's form", put("critest", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"sethostname","action":"SCMP_ACT_ERRNO","args":null}]}`), true},
		{"NUL in the path", dir + "/oci\x00", false},
		{"a listener", put("listen", `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}`), false},
		{"notify", put("notify", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}`), false},
	} {
		f, err := Compile(spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: c.path}, nil)
		if (err == nil) != c.ok || (f != nil) != c.ok {
			t.Errorf("%s: %v, %v", c.name, f, err)
		}
		if err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: kind of %v", c.name, err)
		}
	}
}

func FuzzLocalProfile(f *testing.F) {
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":[]}]}`)
	path := filepath.Join(f.TempDir(), "p")
	f.Fuzz(func(t *testing.T, body string) {
		os.WriteFile(path, []byte(body), 0o600)
		got, err := Compile(spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: path}, nil)
		if err == nil && (got == nil || !slices.Contains(actions, got.DefaultAction)) {
			t.Errorf("%q became %v", body, got)
		}
	})
}

func TestRoot(t *testing.T) {
	dir := t.TempDir()
	root, out := filepath.Join(dir, "root"), filepath.Join(dir, "out.json")
	body := []byte(`{"defaultAction":"SCMP_ACT_ERRNO"}`)
	if err := errors.Join(os.MkdirAll(root+"/sub", 0o755), os.WriteFile(out, body, 0o600), os.WriteFile(root+"/sub/in.json", body, 0o600),
		os.Symlink("sub/in.json", root+"/link"), os.Symlink("../out.json", root+"/leak"), os.Symlink(out, root+"/abs"),
		os.Symlink(dir, root+"/up")); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		root + "/sub/in.json": true, root + "/link": true,
		out: false, root + "/leak": false, root + "/abs": false, root + "/up/out.json": false, root: false, root + "/gone": false, dir + "/rootless": false,
	} {
		f, err := Request{Profile: spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: path}, Root: root}.Filter()
		if (err == nil) != ok || (f != nil) != ok || err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}

func TestForeignArchitecturesOfImagesAddNothing(t *testing.T) {
	for _, a := range []string{"", "amd64", "s390x", "x", "SCMP_ARCH_X32"} {
		if got := native(a); len(got) > 1 {
			t.Errorf("an image for %q opens %v", a, got)
		}
	}
}

// TestEveryNameOfTheDefaultIsWellFormed: our own check would refuse a name that moby uses otherwise.
func TestEveryNameOfTheDefaultIsWellFormed(t *testing.T) {
	f, err := Compile(spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}, []string{"CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON"})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(f); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"add_key", "keyctl", "kexec_load", "open_by_handle_at", "userfaultfd", "io_uring_enter"} {
		if allows(f, name) && name != "open_by_handle_at" {
			t.Errorf("%s is allowed", name)
		}
	}
}
