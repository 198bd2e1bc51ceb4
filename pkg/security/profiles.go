package security

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// seccompProfile decides which filter a container gets. Unconfined is said, never left out. Whether a file is a filter
// is seen when it is compiled.
func seccompProfile(r spec.ContainerSecurity, n Node) (spec.SecurityProfile, []spec.Reason, error) {
	unconfined := spec.SecurityProfile{Type: spec.ProfileUnconfined}
	asked := r.Seccomp
	if asked == nil {
		asked = &spec.SecurityProfile{Type: n.reading().seccomp}
	}
	if asked.Type != spec.ProfileLocalhost && asked.Localhost != "" {
		return unconfined, nil, spec.Invalidf("security.seccomp: a path is given, and the type is %q", asked.Type)
	}
	switch asked.Type {
	case spec.ProfileUnconfined, spec.ProfileRuntimeDefault:
	case spec.ProfileLocalhost:
		if err := checkSeccompPath(asked.Localhost, n.SeccompRoot); err != nil {
			return unconfined, nil, err
		}
	default:
		return unconfined, nil, spec.Invalidf("security.seccomp: %q is not a type of profile", asked.Type)
	}
	switch {
	case r.Privileged && r.Seccomp == nil:
		return unconfined, nil, nil
	case r.Privileged && asked.Type != spec.ProfileUnconfined:
		return unconfined, []spec.Reason{{Field: "security.seccomp", Text: "ignored: a privileged container runs without a filter"}}, nil
	}
	return *asked, nil, nil
}

// checkSeccompPath: an empty reference must never mean unconfined (CVE-2023-2431).
func checkSeccompPath(p, root string) error {
	switch {
	case p == "":
		return spec.Invalidf("security.seccomp: the type is localhost, and the path of the profile is missing")
	case !filepath.IsAbs(p) || filepath.Clean(p) != p || strings.IndexByte(p, 0) >= 0 || len(p) > 4095:
		return spec.Invalidf("security.seccomp: %.64q is not a clean absolute path", p)
	case root != "" && root != "/" && !strings.HasPrefix(p, filepath.Clean(root)+"/"):
		return spec.Invalidf("security.seccomp: profile %q is not below %q, where this node keeps them", p, root)
	}
	return nil
}

// appArmorName are the names that AppArmor's parser takes without quotes, and paths.
var appArmorName = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_./:@+~-]{0,254}$`)

// appArmorProfile decides the profile that the program starts in; "" is none of ours to set. Nothing said is the default,
// as Kubernetes has it, where there is one.
func appArmorProfile(r spec.ContainerSecurity, n Node) (string, []spec.Reason, error) {
	const field = "security.apparmor"
	p := r.AppArmor
	if p == nil {
		if r.Privileged {
			return "", nil, nil
		}
		return n.AppArmorDefault, nil, nil
	}
	if p.Type != spec.ProfileLocalhost && p.Localhost != "" {
		return "", nil, spec.Invalidf("%s: the profile %q is named, and the type is %q", field, p.Localhost, p.Type)
	}
	switch p.Type {
	case spec.ProfileUnconfined:
		return "", nil, nil
	case spec.ProfileRuntimeDefault:
		switch {
		case !n.AppArmor:
			return "", []spec.Reason{{Field: field, Text: "ignored: this kernel runs without AppArmor"}}, nil
		case r.Privileged:
			return "", []spec.Reason{{Field: field, Text: "ignored: a privileged container runs without a profile"}}, nil
		case n.AppArmorDefault == "":
			return "", nil, spec.Preconditionf("%s: the default profile is not loaded on this node: the daemon's log says why", field)
		}
		return n.AppArmorDefault, nil, nil
	case spec.ProfileLocalhost:
	default:
		return "", nil, spec.Invalidf("%s: %q is not a type of profile", field, p.Type)
	}
	name := p.Localhost
	loaded := n.AppArmorLoaded != nil && n.AppArmor
	switch {
	case !appArmorName.MatchString(name) || slices.Contains(strings.Split(name, "/"), "..") || name == "unconfined":
		return "", nil, spec.Invalidf("%s: %.64q is not the name of a profile", field, name)
	case r.Privileged:
		return "", []spec.Reason{{Field: field, Text: "ignored: a privileged container runs without a profile"}}, nil
	case !n.AppArmor:
		return "", nil, spec.Preconditionf("%s: profile %q cannot be applied, because this kernel runs without AppArmor", field, name)
	case !loaded || !n.AppArmorLoaded(name):
		return "", nil, spec.Invalidf("%s: profile %q is not loaded on this node: load it with apparmor_parser first", field, name)
	}
	return name, nil, nil
}

// selinux: without SELinux in the kernel its options mean nothing, and say so. With it they are not served yet: a label
// on the process alone, and not on its files, would stop the container and protect nobody.
func selinux(o spec.SELinuxOptions, n Node) ([]spec.Reason, error) {
	const field = "security.selinux_options"
	switch {
	case o == (spec.SELinuxOptions{}):
		return nil, nil
	case !n.SELinux:
		return []spec.Reason{{Field: field, Text: "ignored: this kernel runs without SELinux"}}, nil
	}
	return nil, spec.Errorf(errdefs.ErrNotImplemented, "%s: SELinux labels are not served yet, leave them out", field)
}
