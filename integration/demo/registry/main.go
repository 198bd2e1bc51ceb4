// Command registry serves the demo's image on loopback: a small system made from this machine's static busybox.
//
//	registry 127.0.0.1:5000      prints the image's reference when it can be pulled, and serves until it is killed
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/runtimed/runtimed/integration/registrytest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: registry HOST:PORT")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func serve(addr string) error {
	image, err := system()
	if err != nil {
		return err
	}
	r, err := registrytest.Start(registrytest.Options{Addr: addr})
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Push("demo/busybox:1", image); err != nil {
		return err
	}
	fmt.Println(r.Ref("demo/busybox:1"))
	select {}
}

// system is busybox with a link for each of its applets, and the few files that a small system has.
func system() (registrytest.Image, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return registrytest.Image{}, fmt.Errorf("%w: install busybox-static", err)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return registrytest.Image{}, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return registrytest.Image{}, fmt.Errorf("%s --list: %w", path, err)
	}
	files := []registrytest.File{
		{Name: "bin/", Mode: 0o755}, {Name: "bin/busybox", Mode: 0o755, Body: body},
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files = append(files, registrytest.File{Name: "bin/" + name, Link: "busybox"})
		}
	}
	settings := []registrytest.File{
		{Name: "etc/", Mode: 0o755}, {Name: "root/", Mode: 0o700}, {Name: "tmp/", Mode: 0o1777},
		{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Name: "etc/group", Mode: 0o644, Body: []byte("root:x:0:\nnobody:x:65534:\n")},
	}
	return registrytest.Image{
		Config: registrytest.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}},
		Layers: []registrytest.Layer{{Files: files}, {Files: settings, Compression: registrytest.Zstd}},
	}, nil
}
