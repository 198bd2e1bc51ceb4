package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// bundle is an OCI bundle for runc, made after a container of ours: the same pod's namespaces, layers below the same
// kind of root file system, mounts, limits and capabilities.
type bundle struct {
	id, dir, state string
	complaints     string // runc's own log
	spec           *specs.Spec
	layers         string // mount point of the idmapped layers
	chain          []string
	root           int // the container's root, in the node's ids
}

func (b *bench) newBundle(p pod, model, id string) (*bundle, error) {
	dir := filepath.Join(b.dir, "peer", id)
	t := &bundle{
		id: id, dir: dir, state: filepath.Join(b.dir, "peer", "state"), complaints: filepath.Join(dir, "stderr"),
		layers: filepath.Join(dir, "layers"), spec: &specs.Spec{},
	}
	for _, d := range []string{"rootfs", "layers"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	var launch spec.Launch
	if err := errors.Join(
		readJSON(filepath.Join(b.record(p, model), spec.ConfigFile), t.spec),
		readJSON(filepath.Join(b.record(p, model), spec.LaunchFile), &launch),
	); err != nil {
		return nil, err
	}
	if launch.UserNamespace == "" {
		return nil, errors.New("the model has no user namespace")
	}
	t.spec.Root.Path = filepath.Join(dir, "rootfs")
	t.chain, t.root = launch.Layers, int(t.spec.Linux.UIDMappings[0].HostID)
	if err := t.mapLayers(launch); err != nil {
		return nil, fmt.Errorf("the peer's layers: %w", err)
	}
	if err := t.mountRoot(); err != nil {
		return nil, fmt.Errorf("the peer's root file system: %w", err)
	}
	// As deep as ours: a kubelet's parent is the same for every runtime.
	t.spec.Linux.CgroupsPath = strings.Replace(launch.CgroupPath, "/ours/", "/peer/", 1) + "-" + id
	t.spec.Linux.UIDMappings, t.spec.Linux.GIDMappings = nil, nil
	for i, n := range t.spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			t.spec.Linux.Namespaces[i].Path = launch.UserNamespace
		}
	}
	return t, nil
}

func readJSON(path string, into any) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// mapLayers mounts the layers' parent, idmapped by the pod's user namespace.
func (t *bundle) mapLayers(l spec.Launch) error {
	ns, err := os.Open(l.UserNamespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, l.Layout.Layers(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, t.layers, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// mountRoot makes the overlay with a new upper directory.
func (t *bundle) mountRoot() error {
	upper, work := filepath.Join(t.dir, "upper"), filepath.Join(t.dir, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755), os.Chown(upper, t.root, t.root)); err != nil {
		return err
	}
	var lowers []string
	for _, chain := range slices.Backward(t.chain) {
		lowers = append(lowers, filepath.Join(t.layers, spec.LayerDir(chain)))
	}
	options := "lowerdir=" + strings.Join(lowers, ":") + ",upperdir=" + upper + ",workdir=" + work
	return os.NewSyscallError("mount", unix.Mount("overlay", t.spec.Root.Path, "overlay", 0, options))
}

// renew gives the next container a root file system that nobody has written to, as every container of ours gets.
func (t *bundle) renew() error {
	if err := unix.Unmount(t.spec.Root.Path, 0); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return errors.Join(os.RemoveAll(filepath.Join(t.dir, "upper")), os.RemoveAll(filepath.Join(t.dir, "work")), t.mountRoot())
}

// write writes config.json, for the probe with these arguments.
func (t *bundle) write(args ...string) error {
	t.spec.Process.Args = append([]string{"/probe"}, args...)
	body, err := json.Marshal(t.spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.dir, "config.json"), body, 0o600)
}

func (t *bundle) runc(args ...string) *exec.Cmd {
	return exec.Command("runc", append([]string{"--root", t.state, "--log", t.complaints}, args...)...)
}

func (t *bundle) close() error {
	return errors.Join(unix.Unmount(t.spec.Root.Path, 0), unix.Unmount(t.layers, 0), os.RemoveAll(t.dir))
}
