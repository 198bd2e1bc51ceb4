package capability

import (
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Default is the node's list where the configuration has none: CRI-O's nine. Against Docker's fourteen it lacks NET_RAW
// (unprivileged ping is a sysctl), MKNOD, AUDIT_WRITE, SETFCAP and SYS_CHROOT.
var Default = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_KILL",
}

// Known are the names of all capabilities that this program knows, in the kernel's order.
func Known() []string {
	list := capability.ListKnown()
	out := make([]string, 0, len(list))
	for _, c := range list {
		out = append(out, "CAP_"+strings.ToUpper(c.String()))
	}
	return out
}

// Held are the capabilities that the calling process may pass on: those permitted and still in its bounding set.
func Held() ([]string, error) {
	c, err := capability.NewPid2(os.Getpid())
	if err != nil {
		return nil, err
	}
	if err := c.Load(); err != nil {
		return nil, err
	}
	var out []string
	for _, k := range capability.ListKnown() {
		if c.Get(capability.PERMITTED, k) && c.Get(capability.BOUNDING, k) {
			out = append(out, "CAP_"+strings.ToUpper(k.String()))
		}
	}
	return out, nil
}

// all is the word for every capability. It is no name of one.
const all = "ALL"

// Normal is the kernel's spelling of a name, with or without "CAP_" and in any case: "net_admin" is CAP_NET_ADMIN, "all"
// is ALL. InvalidArgument for anything else.
func Normal(name string) (string, error) {
	n := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	if n == all {
		return all, nil
	}
	if n = "CAP_" + n; slices.Contains(Known(), n) {
		return n, nil
	}
	return "", spec.Invalidf("%.64q is not the name of a capability: see capabilities(7)", name)
}

// Request is what Resolve decides on.
type Request struct {
	Default []string // the node's list
	Held    []string // what the daemon may pass on
	Change  spec.CapabilityChange
	// Privileged: every capability that is held, whatever Change says.
	Privileged bool
	// Root: the program starts as user 0 of its user namespace.
	Root bool
	// UserNamespace: the container has one. Its first process holds every capability there (user_namespaces(7)), so
	// one that is asked for by name needs not be held by the daemon.
	UserNamespace bool
}

// Resolve computes the sets. The order is containerd's and CRI-O's: the base is the node's list, of which what the
// daemon lacks is left out; add ALL makes it all that the daemon holds; drop ALL, which wins over add ALL, makes it
// nothing; then named adds and ambient adds, and last named drops.
//
// A program of a user other than 0 has permitted and effective only what is ambient, which is what execve(2) would leave
// it anyway. Inheritable holds what is ambient, because prctl(2) wants that, and nothing else: files with inheritable
// capabilities gain nothing (CVE-2022-24769).
//
// InvalidArgument for an unknown name and for an ambient ALL, FailedPrecondition for a named capability that the daemon
// cannot give.
func Resolve(r Request) (specs.LinuxCapabilities, error) {
	ch, err := normalise(r.Change)
	if err != nil {
		return specs.LinuxCapabilities{}, err
	}
	if r.Privileged {
		ch.Add, ch.Drop = []string{all}, nil
	}
	have, err := r.base(ch)
	if err != nil {
		return specs.LinuxCapabilities{}, err
	}
	for _, c := range slices.Concat(ch.Add, ch.AddAmbient) {
		if c == all {
			continue
		}
		if !r.gives(c) {
			return specs.LinuxCapabilities{}, spec.Errorf(errdefs.ErrFailedPrecondition,
				"security.capabilities asks for %s, which the runtime itself does not hold on this node", c)
		}
		have[c] = true
	}
	for _, c := range ch.Drop {
		delete(have, c)
	}
	ambient := map[string]bool{}
	for _, c := range ch.AddAmbient {
		ambient[c] = have[c]
	}
	return sets(have, ambient, r.Root), nil
}

func (r Request) gives(name string) bool { return r.UserNamespace || slices.Contains(r.Held, name) }

// base is what named adds and drops change.
func (r Request) base(ch spec.CapabilityChange) (map[string]bool, error) {
	have := map[string]bool{}
	switch {
	case slices.Contains(ch.Drop, all):
	case slices.Contains(ch.Add, all):
		for _, c := range r.Held {
			have[c] = true
		}
	default:
		for _, name := range r.Default {
			c, err := Normal(name)
			if err != nil || c == all {
				return nil, spec.Errorf(errdefs.ErrFailedPrecondition, "the node's default capabilities hold %q, which is not the name of one", name)
			}
			if r.gives(c) {
				have[c] = true
			}
		}
	}
	return have, nil
}

func normalise(c spec.CapabilityChange) (out spec.CapabilityChange, err error) {
	for _, l := range []struct {
		field string
		from  []string
		to    *[]string
	}{{"add", c.Add, &out.Add}, {"drop", c.Drop, &out.Drop}, {"add_ambient", c.AddAmbient, &out.AddAmbient}} {
		for _, name := range l.from {
			n, err := Normal(name)
			if err != nil {
				return out, spec.Invalidf("security.capabilities.%s: %w", l.field, err)
			}
			*l.to = append(*l.to, n)
		}
	}
	if slices.Contains(out.AddAmbient, all) {
		return out, spec.Invalidf("security.capabilities.add_ambient: ALL is not possible, name each capability")
	}
	return out, nil
}

func sets(have, ambient map[string]bool, root bool) specs.LinuxCapabilities {
	bounding, now, amb := []string{}, []string{}, []string{}
	for _, c := range Known() {
		if !have[c] {
			continue
		}
		bounding = append(bounding, c)
		if ambient[c] {
			amb = append(amb, c)
		}
		if root || ambient[c] {
			now = append(now, c)
		}
	}
	return specs.LinuxCapabilities{
		Bounding: bounding, Permitted: now, Effective: slices.Clone(now),
		Inheritable: amb, Ambient: slices.Clone(amb),
	}
}
