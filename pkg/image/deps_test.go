package image

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The daemon parses no layer: what could is not linked into it.
func TestNoLayerParserIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags=seccomp,netgo,osusergo", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, out)
	}
	deps := strings.Fields(string(out))
	for _, d := range []string{
		"archive/tar", "archive/zip", "compress/bzip2", "github.com/klauspost/compress/zstd", "github.com/google/go-containerregistry/pkg/v1/remote",
		"github.com/google/go-containerregistry/pkg/v1/tarball", "github.com/google/go-containerregistry/pkg/v1/mutate",
	} {
		if slices.Contains(deps, d) {
			t.Errorf("%s is linked: layers are parsed by the unpack worker alone", d)
		}
	}
	if !slices.Contains(deps, "github.com/google/go-containerregistry/pkg/v1/remote/transport") {
		t.Error("the list of dependencies is not what this test takes it for")
	}
}
