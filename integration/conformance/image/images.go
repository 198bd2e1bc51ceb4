package image

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/integration/registrytest"
)

// Form is how a registry keeps an image.
type Form int

// The forms.
const (
	Manifest Form = iota
	Index         // an OCI index with an image for another platform before it
	List          // the same as a Docker manifest list
)

// Named is an image with the names that it has in a registry.
type Named struct {
	Names []string // repository:tag
	Form  Form
	Image registrytest.Image
}

// Programs are the files that images are made of.
type Programs struct {
	Busybox []byte   // static
	Applets []string // what busybox can be called
	Standin []byte   // ./integration/conformance/standin
}

const (
	e2e     = "e2e-test-images/"
	staging = "k8s-staging-cri-tools/"

	digested  = staging + "test-image-digest"
	zstandard = e2e + "httpd:2.4.39-4"

	passwd = `root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
default-user:x:1000:1000::/home:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`
	group = `root:x:0:
www-data:x:33:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
nobody:x:65534:
`
)

// All are the images that critest v1.36.0 asks for.
func All(p Programs) []Named {
	system, standin := p.system(), func(name string, mode int64, more ...registrytest.File) registrytest.Layer {
		return registrytest.Layer{Files: append([]registrytest.File{{Name: "usr/bin/" + name, Mode: mode, Body: p.Standin}}, more...)}
	}
	image := func(c registrytest.Config, more ...registrytest.Layer) registrytest.Image {
		c.Env = append(c.Env, "PATH=/usr/bin:/bin")
		if c.Entrypoint == nil && c.Cmd == nil {
			c.Cmd = []string{"sh"}
		}
		return registrytest.Image{Config: c, Layers: append(slices.Clone(system), more...)}
	}
	mark := func(text string) registrytest.Image {
		return image(registrytest.Config{}, registrytest.Layer{Files: []registrytest.File{{Name: text, Mode: 0o644, Body: []byte(text + "\n")}}})
	}
	pid := registrytest.File{Name: "var/run/", Mode: 0o755}
	nginx := standin("nginx", 0o755, registrytest.File{Name: "var/", Mode: 0o755}, pid)
	all := []Named{
		{[]string{e2e + "busybox:1.29-2"}, List, image(registrytest.Config{})},
		{[]string{e2e + "nginx:1.14-2"}, Index, image(registrytest.Config{Entrypoint: []string{"nginx"}, StopSignal: "SIGQUIT"}, nginx)},
		{[]string{zstandard}, Manifest, image(registrytest.Config{Entrypoint: []string{"httpd"}}, standin("httpd", 0o755))},
		{[]string{e2e + "nonewprivs:1.3"}, List, image(registrytest.Config{Entrypoint: []string{"/usr/bin/nonewprivs"}}, standin("nonewprivs", 0o4755))},
		{[]string{"pause:3.9"}, Index, registrytest.Image{Config: registrytest.Config{Entrypoint: []string{"/usr/bin/pause"}}, Layers: []registrytest.Layer{standin("pause", 0o755)}}},
		{[]string{staging + "test-image-predefined-group:latest"}, Manifest, image(registrytest.Config{User: "1000"})},
		{[]string{staging + "test-image-latest:latest"}, Manifest, mark("latest")},
		{[]string{staging + "test-image-tag:test"}, Index, mark("test")},
		{[]string{staging + "test-image-tag:all"}, Manifest, mark("all")},
		{[]string{staging + "test-image-tags:1", staging + "test-image-tags:2", staging + "test-image-tags:3"}, Manifest, mark("tags")},
		{[]string{digested}, Manifest, Digested()},
	}
	for _, arch := range []string{"amd64", "arm64"} {
		all = append(all, Named{[]string{staging + "hostnet-nginx-" + arch + ":latest"}, Manifest,
			image(registrytest.Config{Entrypoint: []string{"nginx"}, Env: []string{"PORT=12003"}}, nginx)})
	}
	for name, user := range map[string]string{"uid": "1002", "username": "www-data", "uid-group": "1003:1004", "username-group": "www-data:1004"} {
		all = append(all, Named{[]string{staging + "test-image-user-" + name + ":latest"}, Manifest, image(registrytest.Config{User: user})})
	}
	for n := range 3 {
		all = append(all, Named{[]string{fmt.Sprintf("%stest-image-%d:latest", staging, n+1)}, Form(n), mark(fmt.Sprint("different", n+1))})
	}
	slices.SortFunc(all, func(a, b Named) int { return strings.Compare(a.Names[0], b.Names[0]) })
	for n := range all {
		// What is large is not compressed: so it is stored once for all images, and made in no time.
		if all[n].Image.Compression = registrytest.None; all[n].Names[0] == zstandard {
			all[n].Image.Compression = registrytest.Zstd
		}
		all[n].Image.Docker = all[n].Form == List || all[n].Form == Manifest && n%2 == 0 && all[n].Names[0] != digested && all[n].Names[0] != zstandard
	}
	return all
}

// Digested is the image that critest asks for by a digest, which is compiled into it: so it is the same everywhere, and
// made of nothing that a machine has.
func Digested() registrytest.Image {
	return registrytest.Image{
		OS: "linux", Architecture: "amd64", Created: "2026-01-01T00:00:00Z", Compression: registrytest.None,
		Config: registrytest.Config{Cmd: []string{"/none"}},
		Layers: []registrytest.Layer{{Files: []registrytest.File{{Name: "digest", Mode: 0o644, Body: []byte("digest\n")}}}},
	}
}

// system is busybox with a link for each applet. /bin/ls is a file of its own, so that it can be hidden alone.
func (p Programs) system() []registrytest.Layer {
	files := []registrytest.File{
		{Name: "bin/", Mode: 0o755}, {Name: "bin/busybox", Mode: 0o755, Body: p.Busybox},
		{Name: "bin/ls", Mode: 0o755, Type: tar.TypeLink, Link: "bin/busybox"},
		{Name: "usr/", Mode: 0o755}, {Name: "usr/bin/", Mode: 0o755},
		{Name: "bin/sh", Mode: 0o755, Body: p.Standin},
	}
	for _, name := range []string{"ipcs", "pgrep"} {
		files = append(files, registrytest.File{Name: "bin/" + name, Mode: 0o755, Type: tar.TypeLink, Link: "bin/sh"})
	}
	own := []string{"busybox", "ls", "sh", "ipcs", "pgrep"}
	for _, name := range p.Applets {
		if !slices.Contains(own, name) {
			files = append(files, registrytest.File{Name: "bin/" + name, Link: "busybox"})
		}
	}
	settings := []registrytest.File{
		{Name: "etc/", Mode: 0o755}, {Name: "root/", Mode: 0o700}, {Name: "tmp/", Mode: 0o1777}, {Name: "home/", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644, Body: []byte(passwd)}, {Name: "etc/group", Mode: 0o644, Body: []byte(group)},
	}
	return []registrytest.Layer{{Files: files, Compression: registrytest.None}, {Files: settings, Compression: registrytest.Gzip}}
}

// Digest is the digest of Digested's manifest.
func Digest() string {
	b, err := Digested().Build()
	if err != nil {
		panic(err) // it is made of constants
	}
	return b.Digest
}
