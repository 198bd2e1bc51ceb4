package creator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// takeLock takes the record lock by which the daemon sees that this shim lives. fcntl(2)'s locks belong to the process
// and survive execve, but any close of the file in this process would drop them: it is opened once. (Before Linux 5.11
// the execve of a process with several threads lost them; mounts of layers need 5.19 anyway.)
func (c *creator) takeLock(context.Context) error {
	f, err := os.OpenFile(c.bundle.Path(spec.LockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	c.lock = f
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errors.New("another shim of this container is alive")
	}
	return err
}

// enterGroup begins to move this process to the shims' own group, in every hierarchy where libcontainer would make one
// for the container: its memory is not the pod's, and the pod's cgroup.kill does not reach it. The group is shared by
// all shims and stays; with systemd it is a scope of the shim's own, which ends with it.
//
// The first move on a machine in a while waits for an RCU grace period in the kernel (measured: 4 to 13 ms, those that
// follow 0.05), and the container's init has to be moved as well. So this one is under way while the mounts are made
// and the init starts; "grouped" waits for its end.
func (c *creator) enterGroup(context.Context) error {
	group := &cgroups.Cgroup{Path: c.bundle.Launch.ShimCgroup, Resources: &cgroups.Resources{}}
	throughSystemd(group, c.bundle.Launch.ShimCgroup)
	m, err := manager.New(group)
	if err != nil {
		return err
	}
	c.entered = make(chan error, 1)
	go func() { c.entered <- m.Apply(os.Getpid()) }()
	return nil
}

func (c *creator) awaitGroup(context.Context) error {
	if err := <-c.entered; err != nil {
		return fmt.Errorf("shim's cgroup %q: %w", c.bundle.Launch.ShimCgroup, err)
	}
	return nil
}

// convert turns config.json into libcontainer's form.
func (c *creator) convert(context.Context) error {
	l := c.bundle.Launch
	// Hooks are told that the bundle is the working directory: they read config.json there.
	if err := os.Chdir(c.dir); err != nil {
		return err
	}
	defer os.Chdir("/")
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: l.ContainerID, Spec: c.bundle.Config})
	if err != nil {
		return err
	}
	throughSystemd(config.Cgroups, l.CgroupPath)
	if l.UserNamespace != "" {
		// Only now: by path in the spec it would cost a process, which reads the maps that we know already.
		config.Namespaces.Add(configs.NEWUSER, l.UserNamespace)
		mapByPath(config, l.UserNamespace)
	}
	if err := settleOOMScore(config); err != nil {
		return err
	}
	if c.rootUID, err = config.HostRootUID(); err != nil {
		return err
	}
	if c.rootGID, err = config.HostRootGID(); err != nil {
		return err
	}
	// What the kernel would say of such an id names the wrong object.
	user := c.bundle.Config.Process.User
	if _, err := config.HostUID(int(user.UID)); err != nil {
		return fmt.Errorf("user %d is not mapped in the pod's user namespace", user.UID)
	}
	if _, err := config.HostGID(int(user.GID)); err != nil {
		return fmt.Errorf("group %d is not mapped in the pod's user namespace", user.GID)
	}
	c.config = config
	return nil
}

// mapByPath lets idmapped mounts with the pod's own maps use the pod's user namespace: for any other, libcontainer
// starts a process that holds one.
func mapByPath(config *configs.Config, path string) {
	for _, m := range config.Mounts {
		if m.IDMapping != nil && slices.Equal(m.IDMapping.UIDMappings, config.UIDMappings) &&
			slices.Equal(m.IDMapping.GIDMappings, config.GIDMappings) {
			m.IDMapping.UIDMappings, m.IDMapping.GIDMappings = nil, nil
			m.IDMapping.UserNSPath = path
		}
	}
}

// settleOOMScore keeps a container that asks for no score from inheriting the daemon's protection.
func settleOOMScore(config *configs.Config) error {
	if config.OomScoreAdj != nil {
		return nil
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if own < 0 {
		config.OomScoreAdj = new(int)
	}
	return nil
}
