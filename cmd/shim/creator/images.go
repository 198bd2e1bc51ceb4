package creator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// imagesDir holds, in the cover, the images of which mounts take a part or all.
const imagesDir = "images"

// imageAt is the image that a bind mount's source stands for, or nil.
func (c *creator) imageAt(source string) *spec.LaunchImage {
	l := &c.bundle.Launch
	for i := range l.Images {
		if l.Layout.ImageMount(l.Images[i].Index) == source {
			return &l.Images[i]
		}
	}
	return nil
}

// mountImages mounts each image that the container's mounts name, read-only, over the same idmapped layers as the
// container's root, and puts what is asked of it where config.json has the mount's source.
func (c *creator) mountImages(context.Context) error {
	if len(c.bundle.Launch.Images) == 0 {
		return nil
	}
	if err := os.Mkdir(c.inCover(imagesDir), 0o700); err != nil {
		return err
	}
	// Overlayfs takes no single layer without an upper one: an empty directory is below all.
	empty := c.inCover(imagesDir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		return err
	}
	for i := range c.bundle.Launch.Images {
		img := &c.bundle.Launch.Images[i]
		if err := c.mountImage(img, empty); err != nil {
			return fmt.Errorf("the image of mount %d: %w", img.Index, err)
		}
	}
	return nil
}

func (c *creator) mountImage(img *spec.LaunchImage, empty string) error {
	lowers, err := c.lowers(img.Layers)
	if err != nil {
		return err
	}
	at := c.inCover(imagesDir, strconv.Itoa(img.Index))
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	o, err := openReadonly(c.inCover(layersDir), empty)
	if err != nil {
		return err
	}
	defer o.close()
	o.lowers = lowers
	if err := o.mount(at); err != nil {
		return err
	}
	return c.showPart(at, img)
}

// showPart attaches what is asked of a mounted image. Its links are the image author's: they are resolved inside it only.
func (c *creator) showPart(image string, img *spec.LaunchImage) error {
	root, err := unix.Open(image, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: image, Err: err}
	}
	defer unix.Close(root)
	part, err := pathInRoot(root, filepath.Join("/", img.SubPath))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("it has no file or directory %q", img.SubPath)
	}
	if err != nil {
		return err
	}
	defer part.Close()
	s, err := sourceOf(part)
	if err != nil {
		return err
	}
	return attach(s, c.bundle.Launch.Layout.ImageMount(img.Index))
}

// sourceOf takes a copy of the mount at an open file, which must be a directory or a regular file.
func sourceOf(f *os.File) (source, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return source{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return source{}, fmt.Errorf("%q is neither a file nor a directory", f.Name())
	}
	tree, err := cloneTree(int(f.Fd()), false)
	if err != nil {
		return source{}, &os.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	return source{tree: tree, dir: kind == unix.S_IFDIR}, nil
}
