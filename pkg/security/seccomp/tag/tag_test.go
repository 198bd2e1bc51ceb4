package tag

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNoBuildWithoutFilters builds this package as a build without the tag, or without cgo, would.
func TestNoBuildWithoutFilters(t *testing.T) {
	for name, c := range map[string]struct {
		flags, cgo string
		ok         bool
	}{
		"tag and cgo": {"-tags=seccomp", "1", true},
		"no tag":      {"", "1", false},
		"other tags":  {"-tags=netgo,osusergo", "1", false},
		"no cgo":      {"-tags=seccomp", "0", false},
	} {
		cmd := exec.Command("go", "build", ".")
		cmd.Env = append(cmd.Environ(), "GOFLAGS="+c.flags, "CGO_ENABLED="+c.cgo)
		out, err := cmd.CombinedOutput()
		if (err == nil) != c.ok || !c.ok && !strings.Contains(string(out), "build_with_tags_seccomp_and_cgo") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
