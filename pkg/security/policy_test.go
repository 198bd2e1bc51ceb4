package security

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var update = flag.Bool("update", false, "write the table of policies in docs/security.md anew")

// said is what a request gets in the words that matter for its line of the table.
type said func(t *testing.T, n Node) string

// container resolves a container and shows a part of its profile.
func shows(show func(spec.Profile) string, edits ...func(*ContainerInput)) said {
	return func(t *testing.T, n Node) string {
		p, err := ResolveContainer(container(edits...), n)
		if err != nil {
			t.Fatal(err)
		}
		return show(p)
	}
}

// proofs are the lines of Differences, by field and what is left open: what is got under auto, and under cri.
var proofs = map[string]struct {
	said      said
	auto, cri string
}{
	"seccomp: no profile": {shows(func(p spec.Profile) string { return string(p.Seccomp.Type) }), "runtime/default", "unconfined"},
	"masked_paths, readonly_paths: lists that do not name all of this node's": {
		shows(func(p spec.Profile) string { return fmt.Sprint(len(p.MaskedPaths), len(p.ReadonlyPaths)) },
			security(func(s *spec.ContainerSecurity) { s.MaskedPaths, s.ReadonlyPaths = []string{"/x"}, []string{"/y"} })),
		fmt.Sprint(len(maskedPaths)+len(node.MaskedPaths)+1, len(readonlyPaths)+1), "1 1",
	},
	"namespace_options.userns_options: nothing": {func(t *testing.T, n Node) string {
		host := pod(func(r *spec.SandboxRequest) { r.Security.Namespaces.Network = spec.NamespaceNode })
		return fmt.Sprint(hasUsers(t, pod(), n), hasUsers(t, host, n))
	}, "true false", "true false"},
	"namespace_options.userns_options: mode NODE": {func(t *testing.T, n Node) string {
		return fmt.Sprint(hasUsers(t, pod(userns(spec.NamespaceNode)), n))
	}, "false", "false"},
	"privileged: with a seccomp profile": {shows(func(p spec.Profile) string { return string(p.Seccomp.Type) }, nodePod,
		security(func(s *spec.ContainerSecurity) {
			s.Privileged, s.Seccomp = true, &spec.SecurityProfile{Type: spec.ProfileRuntimeDefault}
		})), "unconfined", "unconfined"},
	"apparmor: no profile": {func(t *testing.T, n Node) string {
		n.AppArmorDefault = "ours"
		return shows(func(p spec.Profile) string { return p.AppArmor })(t, n)
	}, "ours", "ours"},
	"no_new_privs: false": {shows(func(p spec.Profile) string { return fmt.Sprint(p.NoNewPrivileges) }), "false", "false"},
	"capabilities: neither added nor dropped": {shows(func(p spec.Profile) string { return fmt.Sprint(len(p.Capabilities.Bounding)) }),
		"9", "9"},
	"supplemental_groups_policy: nothing": {shows(func(p spec.Profile) string { return fmt.Sprint(p.User.Groups) }, image("dev")),
		"[1000 50000 50001]", "[1000 50000 50001]"},
}

func hasUsers(t *testing.T, r spec.SandboxRequest, n Node) bool {
	p, err := ResolveSandbox(r, n)
	if err != nil {
		t.Fatal(err)
	}
	return p.UserNamespace
}

// TestDifferences: each line of the published table is what the resolver does, and a line that says "the same" is.
func TestDifferences(t *testing.T) {
	auto, cri := node, node
	auto.Policy, cri.Policy = PolicyAuto, PolicyCRI
	seen := 0
	for _, d := range Differences() {
		key := d.Field + ": " + d.Open
		p, ok := proofs[key]
		if !ok || d.Auto == "" || d.CRI == "" || d.Why == "" {
			t.Errorf("%q is not shown by a test, or not complete", key)
			continue
		}
		seen++
		if got := p.said(t, auto); got != p.auto {
			t.Errorf("%s, auto: %s", key, got)
		}
		if got := p.said(t, cri); got != p.cri {
			t.Errorf("%s, cri: %s", key, got)
		}
		if (p.auto == p.cri) != (d.CRI == "the same") {
			t.Errorf("%s: the table says %q and %q", key, d.Auto, d.CRI)
		}
	}
	if seen != len(proofs) {
		t.Error("a proof has no line")
	}
	if got, want := (Node{Policy: "of another release"}).reading(), readings[PolicyAuto]; got != want {
		t.Errorf("an unknown policy reads as %+v", got)
	}
}

// TestDocs: docs/security.md holds the table.
func TestDocs(t *testing.T) {
	const file, begin, end = "../../docs/security.md", "<!-- policies -->\n", "<!-- end of policies -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	i, j := strings.Index(text, begin), strings.Index(text, end)
	if i < 0 || j < i {
		t.Fatalf("%s has no place for the table", file)
	}
	i += len(begin)
	if *update {
		if err := os.WriteFile(file, []byte(text[:i]+DifferencesTable()+text[j:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := text[i:j]; got != DifferencesTable() {
		t.Errorf("%s differs from the policies: go test ./pkg/security -run Docs -update\n%s", file, got)
	}
	if lines := strings.Split(strings.TrimSpace(DifferencesTable()), "\n"); slices.Contains(lines, "") {
		t.Error("an empty line ends the table")
	}
}
