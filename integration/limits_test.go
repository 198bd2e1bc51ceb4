package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The limits of the house. Raising one is a commit of its own that says why.
const (
	maxFileLines     = 400
	maxFunctionLines = 80
	maxParameters    = 5 // then a struct
	maxMethods       = 6 // of an interface
)

// exempt are declarations beyond a limit, each with its reason.
var exempt = map[string]string{
	"pkg/cri Runtime": "the door's interface has a method for each RPC",
}

// source is one parsed file of the product.
type source struct {
	path string // below the root
	set  *token.FileSet
	file *ast.File
}

// sources parses the product's Go files, without what is generated.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, dir := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
				return err
			}
			s := source{path: strings.TrimPrefix(path, "../"), set: token.NewFileSet()}
			s.file, err = parser.ParseFile(s.set, path, nil, parser.SkipObjectResolution|parser.ParseComments)
			all = append(all, s)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (s source) lines(n ast.Node) int {
	return s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
}

func (s source) exempt(name string) bool { return exempt[filepath.Dir(s.path)+" "+name] != "" }

// TestLimits keeps files, functions, parameter lists and interfaces to a size that can be read.
func TestLimits(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.set.File(s.file.Pos()).LineCount(); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d", s.path, n, maxFileLines)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if l := s.lines(n); l > maxFunctionLines && !s.exempt(n.Name.Name) {
					t.Errorf("%s: %s has %d lines, more than %d", s.path, n.Name.Name, l, maxFunctionLines)
				}
				if p := n.Type.Params.NumFields(); p > maxParameters && !s.exempt(n.Name.Name) {
					t.Errorf("%s: %s has %d parameters, more than %d: use a struct", s.path, n.Name.Name, p, maxParameters)
				}
			case *ast.TypeSpec:
				if i, ok := n.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxMethods && !s.exempt(n.Name.Name) {
					t.Errorf("%s: interface %s has %d methods, more than %d", s.path, n.Name.Name, i.Methods.NumFields(), maxMethods)
				}
			}
			return true
		})
	}
}

// TestEveryPackageSaysWhatItIs wants a package comment of some substance in every package of the product.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]int{}
	for _, s := range sources(t) {
		dir := filepath.Dir(s.path)
		said[dir] = max(said[dir], len(s.file.Doc.Text()))
	}
	for dir, n := range said {
		if n < 60 {
			t.Errorf("%s: the package comment has %d characters: say what it owns, what it never does, and the life of its main object", dir, n)
		}
	}
}

// TestEveryDependencyHasItsReason compares go.mod with docs/dependencies.md.
func TestEveryDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "\t") && len(f) == 2 {
			direct[f[0]] = true
		}
	}
	named := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			named[name] = true
			if !direct[name] {
				t.Errorf("docs/dependencies.md names %s, which go.mod does not require", name)
			}
		}
	}
	for name := range direct {
		if !named[name] {
			t.Errorf("docs/dependencies.md has no line for %s: what is it for, and under which licence?", name)
		}
	}
}

// TestLinksOfTheDocuments finds links to files that are not there.
func TestLinksOfTheDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("docs: %d files, %v", len(files), err)
	}
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			link, _, _ := strings.Cut(part, ")")
			link, _, _ = strings.Cut(link, "#")
			if link == "" || strings.Contains(link, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), link)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, link)
			}
		}
	}
}
