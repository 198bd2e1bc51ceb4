package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxFile bounds each file, in bytes: a request is 16 MiB at most, and a seccomp profile is below 1 MiB.
const maxFile = 64 << 20

// Bundle is what a record directory says about its container.
type Bundle struct {
	Dir    string
	Launch spec.Launch
	Config *specs.Spec
}

// Read reads and checks the bundle in a record directory, given by its absolute path.
func Read(dir string) (*Bundle, error) {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return nil, fmt.Errorf("record directory %q is not a clean absolute path", dir)
	}
	b := &Bundle{Dir: dir}
	if err := readJSON(filepath.Join(dir, spec.LaunchFile), &b.Launch); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(dir, spec.ConfigFile), &b.Config); err != nil {
		return nil, err
	}
	return b, b.check()
}

// StateDir is libcontainer's root.
func (b *Bundle) StateDir() string { return filepath.Join(b.Dir, spec.StateDir) }

// OpenState returns a short path of StateDir, for this process, and the descriptor that it goes through. libcontainer
// seals the program that it re-executes by an overlay of the program's directory and its own; together their paths must
// fit into the 255 bytes of fsconfig(2), or it copies the whole program into memory, for each start and each exec.
func (b *Bundle) OpenState() (path string, state *os.File, err error) {
	state, err = os.OpenFile(b.StateDir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(state.Fd())), state, nil
}

// Path of an entry of the record directory.
func (b *Bundle) Path(name string) string { return filepath.Join(b.Dir, name) }

func (b *Bundle) check() error {
	l, c := b.Launch, b.Config
	switch {
	case l.Version != spec.RecordVersion:
		return fmt.Errorf("%s has version %d, this program knows %d", spec.LaunchFile, l.Version, spec.RecordVersion)
	case len(l.ContainerID) < 20 || len(l.SandboxID) == 0: // the socket's name is cut from the id
		return fmt.Errorf("%s names container %q of sandbox %q", spec.LaunchFile, l.ContainerID, l.SandboxID)
	case b.Dir != l.Layout.Container(l.SandboxID, l.ContainerID):
		return fmt.Errorf("%s is of %q, not of %q", spec.LaunchFile, l.Layout.Container(l.SandboxID, l.ContainerID), b.Dir)
	case !filepath.IsAbs(l.CgroupPath) || !filepath.IsAbs(l.ShimCgroup):
		return fmt.Errorf("%s has cgroup paths %q and %q, which must be absolute", spec.LaunchFile, l.CgroupPath, l.ShimCgroup)
	case c == nil || c.Root == nil || c.Process == nil || c.Linux == nil:
		return fmt.Errorf("%s lacks root, process or linux", spec.ConfigFile)
	case c.Root.Path != l.Layout.Rootfs(l.ContainerID):
		return fmt.Errorf("%s has root %q, not %q", spec.ConfigFile, c.Root.Path, l.Layout.Rootfs(l.ContainerID))
	case c.Linux.CgroupsPath != l.CgroupPath:
		return fmt.Errorf("%s has cgroup %q, %s has %q", spec.ConfigFile, c.Linux.CgroupsPath, spec.LaunchFile, l.CgroupPath)
	case c.Process.Terminal != l.TTY:
		return fmt.Errorf("%s and %s disagree on a terminal", spec.ConfigFile, spec.LaunchFile)
	case c.Hooks != nil && !l.Hooks:
		return fmt.Errorf("%s has hooks, which would run on the host, and %s knows of none", spec.ConfigFile, spec.LaunchFile)
	case c.Hooks == nil && l.Hooks:
		return fmt.Errorf("%s lacks the hooks that %s knows of", spec.ConfigFile, spec.LaunchFile)
	case l.Hooks && len(c.Hooks.Poststart)+len(c.Hooks.Poststop) > 0:
		return fmt.Errorf("%s has hooks for behind the start, which nobody would run", spec.ConfigFile)
	case len(c.Process.Args) == 0 || c.Process.Args[0] == "":
		return errors.New("no command to run: neither the request nor the image has one")
	}
	return b.checkUser()
}

// checkUser: either the container joins the pod's user namespace, and then its maps are known, or it has none.
func (b *Bundle) checkUser() error {
	joins := false
	for _, ns := range b.Config.Linux.Namespaces {
		if ns.Type != specs.UserNamespace {
			continue
		}
		if ns.Path != "" {
			return fmt.Errorf("%s has a user namespace by path; it belongs to %s", spec.ConfigFile, spec.LaunchFile)
		}
		joins = true
	}
	mapped := len(b.Config.Linux.UIDMappings) > 0 && len(b.Config.Linux.GIDMappings) > 0
	if joins != mapped || joins != (b.Launch.UserNamespace != "") {
		return fmt.Errorf("%s and %s disagree on a user namespace (namespace %v, maps %v, path %q)",
			spec.ConfigFile, spec.LaunchFile, joins, mapped, b.Launch.UserNamespace)
	}
	return nil
}

func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
