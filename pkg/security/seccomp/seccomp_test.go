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
	f, err := Compile(Request{Profile: def, Capabilities: []string{"CAP_CHOWN"}})
	if err != nil {
		t.Fatal(err)
	}
	if f.DefaultAction != specs.ActErrno || !allows(f, "read") || allows(f, "mount") || allows(f, "bpf") || allows(f, "io_uring_setup") {
		t.Error("the default must allow what programs need, and not what escapes are made of")
	}
	if len(f.Architectures) != 1 {
		t.Errorf("architectures %v: the native one alone", f.Architectures)
	}
	admin, err := Compile(Request{Profile: def, Capabilities: []string{"CAP_SYS_ADMIN"}, ImageArchitecture: "386"})
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
	if f, err := Compile(Request{Profile: spec.SecurityProfile{Type: spec.ProfileUnconfined}}); f != nil || err != nil {
		t.Error(f, err)
	}
	if _, err := Compile(Request{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
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
		{"a listener", put("listen", `{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}`), false},
		{"notify", put("notify", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}`), false},
	} {
		f, err := Compile(Request{Profile: spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: c.path}})
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
		got, err := Compile(Request{Profile: spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: path}})
		if err == nil && (got == nil || !slices.Contains(actions, got.DefaultAction)) {
			t.Errorf("%q became %v", body, got)
		}
	})
}
