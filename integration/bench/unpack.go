package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/registrytest"
)

const unpackRounds = 3

// measureUnpack compares PullImage of one large layer, from a registry on loopback, with a download of the same file and
// tar xzf. Ours checks two digests beside that, and ends with the file system synced.
func (b *bench) measureUnpack(ctx context.Context) error {
	archive, size, err := archiveOf(filepath.Join(os.Getenv("GOROOT"), "src"))
	if err != nil {
		return err
	}
	built, err := b.registry.Push("bench/large:1", registrytest.Image{Layers: []registrytest.Layer{{Tar: archive}}})
	if err != nil {
		return err
	}
	url := b.registry.URL + "/v2/bench/large/blobs/" + built.Layers[0]
	var ours, oursCPU, theirs, theirsCPU, fetch series
	for range unpackRounds {
		wall, cpu, err := b.pullLarge(ctx)
		if err != nil {
			return err
		}
		tar, err := b.untar(url)
		if err != nil {
			return err
		}
		ours, oursCPU = append(ours, wall), append(oursCPU, cpu)
		theirs, theirsCPU, fetch = append(theirs, tar.wall), append(theirsCPU, tar.cpu), append(fetch, tar.fetch)
	}
	r := b.report
	r.section(fmt.Sprintf("unpack: one gzip layer of %d MB in %d MB", size/1e6, len(built.Blobs[built.Layers[0]])/1e6))
	r.figure("PullImage from loopback, wall", "ms", ours)
	r.figure("PullImage, CPU", "ms", oursCPU)
	r.figure("download to a file, wall", "ms", fetch)
	r.figure("tar xzf and sync, wall", "ms", theirs)
	r.figure("tar xzf, CPU", "ms", theirsCPU)
	var both series
	for i := range theirs {
		both = append(both, theirs[i]+fetch[i])
	}
	r.figure("ratio, PullImage / download and tar xzf, wall", "", ours.over(both))
	r.figure("ratio, CPU (the download's is not in the peer's)", "", oursCPU.over(theirsCPU))
	return nil
}

// archiveOf is a tar of a tree's directories and regular files.
func archiveOf(root string) (archive []byte, size int, err error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err = errors.Join(w.AddFS(os.DirFS(root)), w.Close())
	return out.Bytes(), out.Len(), err
}

func (b *bench) pullLarge(ctx context.Context) (wall, cpu float64, err error) {
	before, err := b.cpu("ours")
	if err != nil {
		return 0, 0, err
	}
	clock := monotonic()
	ref, err := b.pull(ctx, "bench/large:1")
	if err != nil {
		return 0, 0, err
	}
	wall = milliseconds(monotonic() - clock)
	after, err := b.cpu("ours")
	if err != nil {
		return 0, 0, err
	}
	_, err = b.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	return wall, milliseconds(after - before), err
}

type untarred struct{ wall, cpu, fetch float64 }

func (b *bench) untar(url string) (u untarred, err error) {
	dir := filepath.Join(b.dir, "tar")
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o755); err != nil {
		return u, err
	}
	clock := monotonic()
	if err := download(url, filepath.Join(dir, "layer.tgz")); err != nil {
		return u, err
	}
	u.fetch = milliseconds(monotonic() - clock)
	clock = monotonic()
	cmd := exec.Command("tar", "xzf", filepath.Join(dir, "layer.tgz"), "-C", filepath.Join(dir, "out"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return u, fmt.Errorf("tar: %w: %s", err, out)
	}
	u.cpu = milliseconds(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
	if err := exec.Command("sync", "--file-system", dir).Run(); err != nil {
		return u, err
	}
	u.wall = milliseconds(monotonic() - clock)
	runtime.GC() // the bench holds the archive twice
	return u, os.RemoveAll(dir)
}

func download(url, path string) error {
	r, err := http.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("download: %s", r.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r.Body)
	return errors.Join(err, f.Close())
}
