package security

import (
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// reading is what a policy makes of what a request leaves open. It is all that the policies differ in: what a request
// says, and what it may not have, is the same under each of them.
type reading struct {
	// seccomp is the profile of a container whose request names none.
	seccomp spec.ProfileType
	// addPaths: this node's masked and read-only paths are added to the lists that a request gives.
	addPaths bool
}

var readings = map[Policy]reading{
	PolicyAuto: {seccomp: spec.ProfileRuntimeDefault, addPaths: true},
	PolicyCRI:  {seccomp: spec.ProfileUnconfined},
}

// reading of a policy that is not known is that of PolicyAuto, which gives less.
func (n Node) reading() reading {
	if r, ok := readings[n.Policy]; ok {
		return r
	}
	return readings[PolicyAuto]
}

// Difference is one line of the published table of what the policies make of the same request.
type Difference struct {
	Field, Open string // the request's field, and what it leaves open
	Auto, CRI   string
	Why         string // why PolicyCRI gives what PolicyAuto does not, or why both are the same
}

// Differences are the published table. A test resolves each line under both policies.
func Differences() []Difference {
	return []Difference{
		{"seccomp", "no profile", "RuntimeDefault", "unconfined",
			"the CRI has no other word for a pod that Kubernetes leaves unconfined"},
		{"masked_paths, readonly_paths", "lists that do not name all of this node's", "the union of both", "the request's lists alone",
			"the lists are the caller's word; an empty one is this node's, because the message cannot tell empty from left out"},
		{"namespace_options.userns_options", "nothing", "a user namespace, unless the pod needs the host", "the same",
			"the CRI says that POD must be assumed; what was assumed and not asked never makes a pod fail"},
		{"namespace_options.userns_options", "mode NODE", "the node's ids", "the same", "it was asked"},
		{"privileged", "with a seccomp profile", "unconfined", "the same", "a privileged container is there to change the node"},
		{"apparmor", "no profile", "the default profile, where AppArmor is", "the same", "Kubernetes says that it is the runtime's default"},
		{"no_new_privs", "false", "set-user-id programs work", "the same", "it was asked"},
		{"capabilities", "neither added nor dropped", "`security.capabilities`", "the same", "the CRI leaves the default to the node"},
		{"supplemental_groups_policy", "nothing", "Merge", "the same", "the CRI says so"},
	}
}

// DifferencesTable is Differences in Markdown, for docs/security.md.
func DifferencesTable() string {
	var b strings.Builder
	b.WriteString("| field | left open | `auto` | `cri` | why |\n|---|---|---|---|---|\n")
	for _, d := range Differences() {
		b.WriteString("| `" + strings.ReplaceAll(d.Field, ", ", "`, `") + "` | " + strings.Join([]string{d.Open, d.Auto, d.CRI, d.Why}, " | ") + " |\n")
	}
	return b.String()
}
