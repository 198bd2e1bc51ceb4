package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// goList reads the packages of the module, as every build of it is made.
func goList(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), "GOFLAGS=-tags=seccomp,netgo,osusergo")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// fits says whether a path is what a pattern means.
func fits(pattern, path string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == below || strings.HasPrefix(path, below+"/")
	}
	return path == pattern
}

func fitsAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(p, path) })
}

// breaches says, a line each, where packages are against the lattice.
func breaches(all []listed) []string {
	var out []string
	for _, p := range all {
		path, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		out = append(out, edges(path, p.Imports)...)
		for _, l := range links {
			for _, dep := range p.Deps {
				if fits(l.from, path) && fitsAny(l.never, dep) {
					out = append(out, fmt.Sprintf("%s links %s: %s", path, dep, l.because))
				}
			}
		}
		for _, o := range onlys {
			for _, i := range p.Imports {
				if fits(o.imported, i) && !fitsAny(o.by, path) {
					out = append(out, fmt.Sprintf("%s imports %s: %s", path, i, o.because))
				}
			}
		}
	}
	return out
}

// edges checks what one package of ours imports of ours.
func edges(path string, imports []string) []string {
	i := slices.IndexFunc(rooms, func(r room) bool { return fits(r.packages, path) })
	if i < 0 {
		return []string{path + " has no place in the lattice: give it a room, with what it may import and why"}
	}
	var out []string
	for _, full := range imports {
		imported, ours := strings.CutPrefix(full, module)
		if ours && !fitsAny(rooms[i].may, imported) {
			out = append(out, fmt.Sprintf("%s imports %s: %s", path, imported, rooms[i].because))
		}
	}
	return out
}

// TestLattice holds the tree to the policy in lattice_rules_test.go.
func TestLattice(t *testing.T) {
	all := goList(t)
	if len(all) < 40 {
		t.Fatalf("go list names %d packages: that is not the whole tree", len(all))
	}
	for _, b := range breaches(all) {
		t.Error(b)
	}
}

// TestEveryRuleIsAboutSomething finds rules that a renamed package left behind: they would guard nothing.
func TestEveryRuleIsAboutSomething(t *testing.T) {
	var paths []string
	for _, p := range goList(t) {
		paths = append(paths, strings.TrimPrefix(p.ImportPath, module))
	}
	stale := func(pattern string) bool {
		return !slices.ContainsFunc(paths, func(p string) bool { return fits(pattern, p) })
	}
	for _, r := range rooms {
		for _, pattern := range append([]string{r.packages}, r.may...) {
			if stale(pattern) {
				t.Errorf("rooms: no package is %s", pattern)
			}
		}
		if r.because == "" {
			t.Errorf("rooms: %s has no reason", r.packages)
		}
	}
	for _, l := range links {
		if stale(l.from) || l.because == "" {
			t.Errorf("links: %s names no package, or has no reason", l.from)
		}
	}
	for _, o := range onlys {
		if slices.ContainsFunc(o.by, stale) || o.because == "" {
			t.Errorf("onlys: %s names a package that is not there, or has no reason", o.imported)
		}
	}
}

// TestPlantedEdges plants one forbidden edge of each kind, and wants it found with its reason.
func TestPlantedEdges(t *testing.T) {
	for name, c := range map[string]struct {
		planted listed
		want    string
	}{
		"sandbox → image": {listed{ImportPath: module + "pkg/sandbox", Imports: []string{module + "pkg/image"}},
			"pkg/sandbox imports pkg/image: the Runtime knows records"},
		"sandbox → cri": {listed{ImportPath: module + "pkg/sandbox", Imports: []string{module + "pkg/cri/translate"}},
			"pkg/sandbox imports pkg/cri/translate: the Runtime"},
		"leaf → leaf": {listed{ImportPath: module + "pkg/sandbox/cgroup", Imports: []string{module + "pkg/sandbox/network"}},
			"pkg/sandbox/cgroup imports pkg/sandbox/network: a leaf"},
		"spec → anything": {listed{ImportPath: module + "pkg/sandbox/spec", Imports: []string{module + "pkg/sandbox/step"}},
			"pkg/sandbox/spec imports pkg/sandbox/step: the vocabulary"},
		"trust → registry": {listed{ImportPath: module + "pkg/image/trust", Imports: []string{module + "pkg/image/registry"}},
			"pkg/image/trust imports pkg/image/registry: trust ← registry"},
		"door → runtime": {listed{ImportPath: module + "pkg/cri", Imports: []string{module + "pkg/sandbox"}},
			"pkg/cri imports pkg/sandbox: the door translates"},
		"product → tests": {listed{ImportPath: module + "cmd/runtimed", Imports: []string{module + "integration/registrytest"}},
			"cmd/runtimed imports integration/registrytest: wiring"},
		"monitor links grpc": {listed{ImportPath: module + "cmd/shim/monitor", Deps: []string{"google.golang.org/grpc/codes"}},
			"cmd/shim/monitor links google.golang.org/grpc/codes: one monitor stands"},
		"monitor links libcontainer": {listed{ImportPath: module + "cmd/shim/monitor/supervise", Deps: []string{"github.com/opencontainers/runc/libcontainer"}},
			"cmd/shim/monitor/supervise links github.com/opencontainers/runc/libcontainer: one monitor"},
		"daemon links tar": {listed{ImportPath: module + "cmd/runtimed", Deps: []string{"archive/tar"}},
			"cmd/runtimed links archive/tar: the daemon is privileged"},
		"libcontainer elsewhere": {listed{ImportPath: module + "pkg/sandbox/launch", Imports: []string{"github.com/opencontainers/runc/libcontainer"}},
			"pkg/sandbox/launch imports github.com/opencontainers/runc/libcontainer: libcontainer is the creator's"},
		"a new package": {listed{ImportPath: module + "pkg/util"}, "pkg/util has no place in the lattice"},
	} {
		found := breaches([]listed{c.planted})
		if !slices.ContainsFunc(found, func(b string) bool { return strings.HasPrefix(b, c.want) }) {
			t.Errorf("%s: want %q, found %q", name, c.want, found)
		}
	}
	clean := listed{ImportPath: module + "pkg/sandbox", Imports: []string{module + "pkg/sandbox/spec", "os"}, Deps: []string{"os"}}
	if found := breaches([]listed{clean}); len(found) > 0 {
		t.Errorf("nothing is wrong with %v, but: %q", clean.Imports, found)
	}
}

// inits says where the Go files below a directory have an init function.
func inits(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		generated := strings.HasSuffix(path, ".pb.go") // protoc's registers what it generated
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || generated {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				found = append(found, set.Position(f.Pos()).String())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNothingHappensByImport: wiring is visible in main, not in an import. libcontainer's C constructor, which
// cmd/shim imports for what it does, is the one exception, and is not ours.
func TestNothingHappensByImport(t *testing.T) {
	for _, dir := range []string{"../cmd", "../pkg"} {
		for _, where := range inits(t, dir) {
			t.Errorf("%s: func init: nothing happens by import; call it from main", where)
		}
	}
}

func TestPlantedInitIsFound(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"planted.go":      "package p\n\nfunc init() {}\n",
		"method.go":       "package p\n\ntype t struct{}\n\nfunc (t) init() {}\n",
		"planted_test.go": "package p\n\nfunc init() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := inits(t, dir); len(found) != 1 || !strings.HasSuffix(found[0], "planted.go:3:1") {
		t.Errorf("found %q, want planted.go:3:1 alone", found)
	}
}
