package seccomp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	_ "github.com/runtimed/runtimed/pkg/security/seccomp/tag" // no build without filters
)

// maxProfile bounds a profile file, in bytes.
const maxProfile = 1 << 20

// architectures are the node's own, by Go's name, and those whose programs it can run beside it (seccomp_arch_add(3)).
var architectures = map[string]struct {
	own    specs.Arch
	beside map[string]specs.Arch
}{
	"amd64":   {own: specs.ArchX86_64, beside: map[string]specs.Arch{"386": specs.ArchX86}},
	"arm64":   {own: specs.ArchAARCH64, beside: map[string]specs.Arch{"arm": specs.ArchARM}},
	"ppc64le": {own: specs.ArchPPC64LE},
	"s390x":   {own: specs.ArchS390X},
	"riscv64": {own: specs.ArchRISCV64},
}

// Request is what a filter is made from.
type Request struct {
	Profile spec.SecurityProfile
	// Capabilities is the container's bounding set: the default profile allows some calls only beside one of them.
	Capabilities []string
	// ImageArchitecture is the image's, in Go's words. Where the node can run its programs beside its own, the default
	// profile has it too. No other is added: every one costs time at each start (two more: 25 ms), and opens the
	// kernel's compatibility calls.
	ImageArchitecture string
	// Root is the directory below which profile files must be, without a symbolic link out of it; "" or "/" is
	// anywhere.
	Root string
}

// Compile is Request.Filter for a node where profile files may be anywhere and images are of its own architecture.
func Compile(p spec.SecurityProfile, bounding []string) (*specs.LinuxSeccomp, error) {
	return Request{Profile: p, Capabilities: bounding}.Filter()
}

// Filter returns the filter, or nil for unconfined alone. InvalidArgument names the file and what is wrong with it.
func (r Request) Filter() (*specs.LinuxSeccomp, error) {
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
		return r.local(process)
	default:
		return nil, spec.Invalidf("%q is not a kind of seccomp profile", r.Profile.Type)
	}
}

func native(image string) []specs.Arch {
	node, ok := architectures[runtime.GOARCH]
	if !ok {
		return nil // libseccomp's own
	}
	list := []specs.Arch{node.own}
	if a, ok := node.beside[image]; ok {
		list = append(list, a)
	}
	return list
}

// local reads a profile of the node. A name that is missing, or is anything but a plain file, never means unconfined
// (CVE-2023-2431).
func (r Request) local(process *specs.Spec) (*specs.LinuxSeccomp, error) {
	path := r.Profile.Localhost
	body, err := read(path, r.Root)
	if err != nil {
		return nil, err
	}
	if err := strict(body); err != nil {
		return nil, spec.Invalidf("seccomp profile %q: %w", path, err)
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

func read(path, root string) ([]byte, error) {
	if path == "" {
		return nil, spec.Invalidf("a localhost seccomp profile needs the path of its file")
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.IndexByte(path, 0) >= 0 {
		return nil, spec.Invalidf("seccomp profile %.64q: give the clean absolute path of its file", path)
	}
	f, err := open(path, root)
	if err != nil {
		return nil, spec.Invalidf("seccomp profile %q: %w", path, err)
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

// open never waits: a FIFO must not hold anybody up (O_NONBLOCK), and a terminal never becomes ours.
func open(path, root string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if root == "" || root == "/" {
		return os.OpenFile(path, flags, 0)
	}
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("it is not below %q, where this node keeps them", root)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, rel, &how)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "open below " + root, Path: rel, Err: err}
		default:
			return os.NewFile(uintptr(fd), path), nil
		}
	}
}
