package translate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// namespaces translates the namespace wishes. A nil message is POD for all but the user namespace, which stays unset.
func (c *check) namespaces(field string, n *v1.NamespaceOption) spec.Namespaces {
	out := spec.Namespaces{
		Network: c.mode(field+".network", n.GetNetwork(), v1.NamespaceMode_POD, v1.NamespaceMode_NODE),
		PID: c.mode(field+".pid", n.GetPid(), v1.NamespaceMode_POD, v1.NamespaceMode_CONTAINER, v1.NamespaceMode_NODE,
			v1.NamespaceMode_TARGET),
		IPC:    c.mode(field+".ipc", n.GetIpc(), v1.NamespaceMode_POD, v1.NamespaceMode_NODE),
		Target: n.GetTargetId(),
		User:   c.userNamespace(field+".userns_options", n.GetUsernsOptions()),
	}
	switch target := out.PID == spec.NamespaceTarget; {
	case target:
		c.id(field+".target_id", out.Target)
	case out.Target != "":
		c.fail(field+".target_id", "is given, but pid is not TARGET")
	}
	return out
}

var modes = map[v1.NamespaceMode]spec.NamespaceMode{
	v1.NamespaceMode_POD:       spec.NamespacePod,
	v1.NamespaceMode_CONTAINER: spec.NamespaceContainer,
	v1.NamespaceMode_NODE:      spec.NamespaceNode,
	v1.NamespaceMode_TARGET:    spec.NamespaceTarget,
}

func (c *check) mode(field string, m v1.NamespaceMode, possible ...v1.NamespaceMode) spec.NamespaceMode {
	if !slices.Contains(possible, m) {
		c.fail(field, "%v is not possible: %v are", m, possible)
	}
	return modes[m]
}

func (c *check) userNamespace(field string, u *v1.UserNamespace) spec.UserNamespace {
	if u == nil {
		return spec.UserNamespace{}
	}
	out := spec.UserNamespace{
		Mode: c.mode(field+".mode", u.GetMode(), v1.NamespaceMode_POD, v1.NamespaceMode_NODE),
		UIDs: c.mappings(field+".uids", u.GetUids()),
		GIDs: c.mappings(field+".gids", u.GetGids()),
	}
	switch {
	case out.Mode == spec.NamespaceNode && len(out.UIDs)+len(out.GIDs) > 0:
		c.fail(field, "has mappings, but mode NODE takes the node's ids as they are")
	case (len(out.UIDs) == 0) != (len(out.GIDs) == 0):
		c.fail(field, "maps only users or only groups: give uids and gids, or neither")
	}
	return out
}

// mappings checks the lines of a uid_map or gid_map for what the kernel would refuse (user_namespaces(7)).
func (c *check) mappings(field string, in []*v1.IDMapping) []spec.IDMapping {
	if !c.count(field, len(in), maxMappings) {
		return nil
	}
	out := make([]spec.IDMapping, 0, len(in))
	for i, m := range in {
		n := spec.IDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()}
		// The last id, 2³²−1, is "no id" (setreuid(2)): no mapping may reach it.
		const last = 1<<32 - 1
		switch {
		case n.Size == 0:
			c.fail(at(field, i)+".length", "is 0")
		case uint64(n.ContainerID)+uint64(n.Size) > last || uint64(n.HostID)+uint64(n.Size) > last:
			c.fail(at(field, i), "reaches beyond the last id, %d", uint32(last-1))
		}
		for j, o := range out {
			if overlap(n.ContainerID, n.Size, o.ContainerID, o.Size) || overlap(n.HostID, n.Size, o.HostID, o.Size) {
				c.fail(at(field, i), "overlaps entry %d", j)
			}
		}
		out = append(out, n)
	}
	return out
}

func overlap(a, n, b, m uint32) bool {
	return uint64(a) < uint64(b)+uint64(m) && uint64(b) < uint64(a)+uint64(n)
}

func (c *check) selinux(field string, s *v1.SELinuxOption) spec.SELinuxOptions {
	part := func(name, v string) string {
		if strings.Contains(v, ":") && name != "level" {
			c.fail(field+"."+name, "%s holds a ':'", shown(v))
		}
		return c.text(field+"."+name, v, maxName)
	}
	return spec.SELinuxOptions{
		User: part("user", s.GetUser()), Role: part("role", s.GetRole()),
		Type: part("type", s.GetType()), Level: part("level", s.GetLevel()),
	}
}

func (c *check) optionalID(field string, v *v1.Int64Value) *int64 {
	if v == nil {
		return nil
	}
	n := c.within(field+".value", v.GetValue(), 0, maxID)
	return &n
}

func (c *check) groups(field string, in []int64) []int64 {
	if !c.count(field, len(in), maxGroups) {
		return nil
	}
	for i, g := range in {
		c.within(at(field, i), g, 0, maxID)
	}
	return slices.Clone(in)
}

func (c *check) strictGroups(field string, p v1.SupplementalGroupsPolicy) bool {
	switch p {
	case v1.SupplementalGroupsPolicy_Merge:
	case v1.SupplementalGroupsPolicy_Strict:
		return true
	default:
		c.fail(field, "%d is not a policy of the CRI", p)
	}
	return false
}

// seccomp reads the profile from its message, or from the deprecated string where there is none. Where both are given
// they must agree.
func (c *check) seccomp(field string, p *v1.SecurityProfile, old string) *spec.SecurityProfile {
	now := c.profile(field+".seccomp", p)
	now = c.agree(field+".seccomp_profile_path", now, c.oldProfile(field+".seccomp_profile_path", old))
	if now != nil && now.Type == spec.ProfileLocalhost {
		c.abs(field+".seccomp (localhost)", now.Localhost)
	}
	return now
}

// apparmor is as seccomp, but that the newer field is preferred where the two disagree; the reference is a profile's name.
func (c *check) apparmor(field string, p *v1.SecurityProfile, old string) *spec.SecurityProfile {
	now := c.profile(field+".apparmor", p)
	if now == nil {
		now = c.oldProfile(field+".apparmor_profile", old)
	}
	if now != nil && now.Type == spec.ProfileLocalhost {
		c.apparmorName(field+".apparmor (localhost)", now.Localhost)
	}
	return now
}

// apparmorNames are names that the parser of AppArmor takes unquoted, and the path form.
var apparmorNames = regexp.MustCompile(`^[A-Za-z0-9_./:@+~*{},-]+$`)

func (c *check) apparmorName(field, s string) {
	switch {
	case s == "":
		c.fail(field, "is missing")
	case len(s) > maxPart || !apparmorNames.MatchString(s) || slices.Contains(strings.Split(s, "/"), ".."):
		c.fail(field, "%s is not the name of a profile", shown(s))
	}
}

func (c *check) profile(field string, p *v1.SecurityProfile) *spec.SecurityProfile {
	if p == nil {
		return nil
	}
	out := &spec.SecurityProfile{Localhost: strings.TrimPrefix(p.GetLocalhostRef(), "localhost/")}
	switch p.GetProfileType() {
	case v1.SecurityProfile_RuntimeDefault:
		out.Type = spec.ProfileRuntimeDefault
	case v1.SecurityProfile_Unconfined:
		out.Type = spec.ProfileUnconfined
	case v1.SecurityProfile_Localhost:
		out.Type = spec.ProfileLocalhost
	default:
		c.fail(field+".profile_type", "%d is not a type of the CRI", p.GetProfileType())
	}
	if out.Localhost != "" && out.Type != spec.ProfileLocalhost {
		c.fail(field+".localhost_ref", "is given, but the type is %v", p.GetProfileType())
	}
	return out
}

func (c *check) oldProfile(field, s string) *spec.SecurityProfile {
	local, isLocal := strings.CutPrefix(s, "localhost/")
	switch {
	case s == "":
		return nil
	case s == "runtime/default" || s == "docker/default":
		return &spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}
	case s == "unconfined":
		return &spec.SecurityProfile{Type: spec.ProfileUnconfined}
	case isLocal:
		return &spec.SecurityProfile{Type: spec.ProfileLocalhost, Localhost: local}
	}
	c.fail(field, "%s is none of runtime/default, unconfined, localhost/…", shown(s))
	return nil
}

func (c *check) agree(field string, now, old *spec.SecurityProfile) *spec.SecurityProfile {
	switch {
	case now == nil:
		return old
	case old != nil && *old != *now:
		c.fail(field, "(deprecated) says %s, the newer field says %s", said(*old), said(*now))
	}
	return now
}

func said(p spec.SecurityProfile) string {
	if p.Localhost == "" {
		return string(p.Type)
	}
	return fmt.Sprintf("%s %s", p.Type, shown(p.Localhost))
}
