package registry

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

var hexes = strings.Repeat("0123456789abcdef", 4)

func TestParseReference(t *testing.T) {
	for in, want := range map[string]string{
		"busybox":                                 "docker.io/library/busybox:latest",
		"busybox:1.36":                            "docker.io/library/busybox:1.36",
		"docker.io/busybox":                       "docker.io/library/busybox:latest",
		"index.docker.io/library/busybox":         "docker.io/library/busybox:latest",
		"user/app":                                "docker.io/user/app:latest",
		"localhost/app":                           "localhost/app:latest",
		"localhost:5000/a/b/c:x":                  "localhost:5000/a/b/c:x",
		"127.0.0.1:5000/app":                      "127.0.0.1:5000/app:latest",
		"[::1]:5000/app":                          "[::1]:5000/app:latest",
		"registry.k8s.io/pause:3.10":              "registry.k8s.io/pause:3.10",
		"r.example/a__b/c-d.e":                    "r.example/a__b/c-d.e:latest",
		"busybox@sha256:" + hexes:                 "docker.io/library/busybox@sha256:" + hexes,
		"r.example:80/a:tag@sha256:" + hexes:      "r.example:80/a@sha256:" + hexes,
		"R.example/a":                             "R.example/a:latest",
		"r.example/" + hexes:                      "r.example/" + hexes + ":latest",
		"r.example/a:" + strings.Repeat("x", 128): "r.example/a:" + strings.Repeat("x", 128),
	} {
		r, err := ParseReference(in)
		if err != nil || r.String() != want {
			t.Errorf("ParseReference(%q) = %q, %v; want %q", in, r, err, want)
			continue
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q does not survive its own text: %q, %v", in, again, err)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "Busybox", "busybox:", ":tag", "busybox@", "busybox@sha256:", "busybox@sha256:" + hexes[1:],
		"busybox@sha256:" + strings.ToUpper(hexes), "busybox@sha512:" + hexes + hexes, "busybox@md5:" + hexes[:32],
		"busybox@sha256:../../" + hexes[:58], "a@b@sha256:" + hexes, hexes, "../etc/passwd", "a/../b", "a//b", "/a", "a/",
		"r.example/a/../b", "r.example//a", "r.example/.a", "r.example/a.", "http://r.example/a", "user:pass@r.example/a", "a b",
		"busy\nbox", "busybox\x00", "r.example:port/a", "r.example:123456/a", "r.example/a:" + strings.Repeat("x", 129),
		"r.example/" + strings.Repeat("a", 256), strings.Repeat("a", 64<<10), "r_x.example/a/b?c=d", "r.example/a#b", "r.example/a:b/c:d",
		"bücher.example/a", "r.example/a%2fb", "-a.example/b", "[::1/a", "r.example/a:.tag", "r.example/a:-tag",
	} {
		if r, err := ParseReference(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("ParseReference(%.60q) = %q, %v", in, r, err)
		} else if len(err.Error()) > 600 {
			t.Errorf("the error for %.20q has %d bytes", in, len(err.Error()))
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:c", "a@sha256:" + hexes, "docker.io/a", "[::1]:1/a", "x/y@z", "a:b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q: %q became %q, %v", s, r, again, err)
		}
		if strings.Contains(r.path, "..") || strings.ContainsAny(r.String(), " \n\x00?#%\\") {
			t.Fatalf("%q was accepted as %q", s, r)
		}
	})
}
