// Package seccomp turns a profile that a request names into the filter of an OCI config.
//
// It owns where profiles come from and what is refused in one. libcontainer compiles and loads the filter, in the
// container's init; a profile that cannot be believed never gets that far, and never becomes "no filter".
package seccomp

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxProfile bounds a profile file, in bytes.
const maxProfile = 1 << 20

// architectures of Go's names that a filter can be native to (seccomp_arch_add(3)).
var architectures = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "386": specs.ArchX86, "arm64": specs.ArchAARCH64, "arm": specs.ArchARM,
	"ppc64le": specs.ArchPPC64LE, "s390x": specs.ArchS390X, "riscv64": specs.ArchRISCV64,
}

// Request is what a filter is made from.
type Request struct {
	Profile spec.SecurityProfile
	// Capabilities is the container's bounding set: the default profile allows some calls only beside one of them.
	Capabilities []string
	// ImageArchitecture is the image's, in Go's words. The default profile is native to it beside the node's own: every
	// further architecture costs time at each start, and opens the kernel's compatibility calls.
	ImageArchitecture string
}

// Compile returns the filter, or nil for unconfined alone.
func Compile(r Request) (*specs.LinuxSeccomp, error) {
	process := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: r.Capabilities}}}
	switch r.Profile.Type {
	case spec.ProfileUnconfined:
		return nil, nil
	case spec.ProfileRuntimeDefault:
		filter, err := seccomp.GetDefaultProfile(process)
		if err != nil {
			return nil, fmt.Errorf("the default seccomp profile: %w", err)
		}
		filter.Architectures = native(r.ImageArchitecture)
		return filter, nil
	case spec.ProfileLocalhost:
		return local(r.Profile.Localhost, process)
	default:
		return nil, spec.Invalidf("%q is not a kind of seccomp profile", r.Profile.Type)
	}
}

func native(image string) []specs.Arch {
	list := []specs.Arch{architectures[runtime.GOARCH]}
	if a, ok := architectures[image]; ok && !slices.Contains(list, a) {
		list = append(list, a)
	}
	return list
}

// local reads a profile of the node. A name that is missing, or is anything but a plain file, never means unconfined
// (CVE-2023-2431).
func local(path string, process *specs.Spec) (*specs.LinuxSeccomp, error) {
	body, err := read(path)
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.LoadProfile(string(body), process)
	if err != nil {
		return nil, spec.Invalidf("seccomp profile %q: %w", path, err)
	}
	if filter == nil { // the library's answer to a document without rules: no filter at all
		return nil, spec.Invalidf("seccomp profile %q has no rules: ask for unconfined where that is meant", path)
	}
	if err := check(filter); err != nil {
		return nil, spec.Invalidf("seccomp profile %q: %w", path, err)
	}
	return filter, nil
}

func read(path string) ([]byte, error) {
	if path == "" {
		return nil, spec.Invalidf("a localhost seccomp profile needs the path of its file")
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, spec.Invalidf("seccomp profile %q: give the absolute path of its file", path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, spec.Invalidf("seccomp profile: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, spec.Invalidf("seccomp profile: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, spec.Invalidf("seccomp profile %q is not a regular file", path)
	}
	body, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, spec.Invalidf("seccomp profile %q: %w", path, err)
	}
	if len(body) > maxProfile {
		return nil, spec.Invalidf("seccomp profile %q is larger than %d bytes", path, maxProfile)
	}
	return body, nil
}

var actions = []specs.LinuxSeccompAction{
	specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog,
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
}

// check refuses what libcontainer would only stumble over in the container's init, and what nobody would serve: a
// filter that notifies has no listener here.
func check(f *specs.LinuxSeccomp) error {
	if f.ListenerPath != "" || f.ListenerMetadata != "" {
		return fmt.Errorf("a listener is not served")
	}
	if !slices.Contains(actions, f.DefaultAction) {
		return fmt.Errorf("the default action %q is not one", f.DefaultAction)
	}
	for _, a := range f.Architectures {
		if !knownArch(a) {
			return fmt.Errorf("architecture %q is not one that libseccomp knows", a)
		}
	}
	for _, call := range f.Syscalls {
		if len(call.Names) == 0 || slices.Contains(call.Names, "") {
			return fmt.Errorf("a rule names no system call")
		}
		if !slices.Contains(actions, call.Action) {
			return fmt.Errorf("the action %q for %q is not one", call.Action, call.Names[0])
		}
		for _, a := range call.Args {
			if a.Index > 5 || !slices.Contains(operators, a.Op) {
				return fmt.Errorf("a rule for %q compares argument %d by %q: arguments are 0 to 5", call.Names[0], a.Index, a.Op)
			}
		}
	}
	return nil
}

func knownArch(a specs.Arch) bool {
	const prefix = "SCMP_ARCH_"
	if len(a) <= len(prefix) {
		return false
	}
	name := map[specs.Arch]string{specs.ArchX86_64: "amd64", specs.ArchAARCH64: "arm64"}[a]
	if name == "" {
		name = lower(string(a[len(prefix):]))
	}
	_, err := libseccomp.GetArchFromString(name)
	return err == nil
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}
