package apparmor

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestNameIsTheTexts(t *testing.T) {
	if !regexp.MustCompile(`^runtimed-default-[0-9a-f]{12}$`).MatchString(Name()) {
		t.Errorf("name %q", Name())
	}
	before := Name()
	saved := template
	defer func() { template = saved }()
	template += "# one word more\n"
	if Name() == before {
		t.Error("another text has the same name")
	}
	if text := Text(); strings.Contains(text, "NAME") || strings.Count(text, Name()) < 3 {
		t.Errorf("the text names itself %d times:\n%s", strings.Count(text, Name()), text)
	}
}

// TestDenied: what the profile must never lose.
func TestDenied(t *testing.T) {
	for _, rule := range []string{"deny mount,", "deny /proc/sys/** wl,", "deny /proc/* w,", "deny /sys/firmware/** rwklx,",
		"deny /sys/kernel/security/** rwklx,", "signal (receive) peer=unconfined,", "ptrace (trace, read, tracedby, readby) peer=" + Name()} {
		if !strings.Contains(Text(), "\n  "+rule) {
			t.Errorf("no rule %q", rule)
		}
	}
}

func TestLoaded(t *testing.T) {
	list := filepath.Join(t.TempDir(), "profiles")
	if loaded(list, "a") {
		t.Error("a list that is not there has a profile")
	}
	write(t, list, "a (enforce)\na (odd) b (complain)\n/usr/bin/x (unconfined)\nc\n"+strings.Repeat("x", 70000)+" (enforce)\n", 0o644)
	for name, want := range map[string]bool{"a": true, "a (odd) b": true, "/usr/bin/x": true, "b": false, "c": false, "": false, "a (enforce)": false} {
		if got := loaded(list, name); got != want {
			t.Errorf("%q is loaded: %v", name, got)
		}
	}
}

// parser writes a program in the place of apparmor_parser.
func parser(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parser")
	write(t, path, "#!/bin/sh\n"+script, 0o755)
	return path
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	list := filepath.Join(t.TempDir(), "profiles")
	got := list + ".text"
	works := parser(t, `[ "$1" = --add ] && cat >"`+got+`" && echo "`+Name()+` (enforce)" >>"`+list+`"`)
	if name, err := load(t.Context(), list, works); err != nil || name != Name() {
		t.Fatalf("load: %q, %v", name, err)
	}
	if b, err := os.ReadFile(got); err != nil || string(b) != Text() {
		t.Errorf("the parser got %d bytes, %v", len(b), err)
	}
	never := parser(t, "exit 1")
	if name, err := load(t.Context(), list, never); err != nil || name != Name() {
		t.Errorf("a profile that is there is loaded again: %q, %v", name, err)
	}
	for what, p := range map[string]string{
		"it is not there": filepath.Join(t.TempDir(), "none"), "it fails": parser(t, "echo no; exit 1"), "it loads nothing": parser(t, "cat >/dev/null"),
	} {
		if name, err := load(t.Context(), list+".other", p); !errdefs.IsFailedPrecondition(err) || name != "" {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := load(gone, list+".other", works); err == nil {
		t.Error("loaded for a caller that gave up")
	}
}
