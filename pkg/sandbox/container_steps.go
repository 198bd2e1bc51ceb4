package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
	"github.com/runtimed/runtimed/pkg/security/cdi"
	"github.com/runtimed/runtimed/pkg/security/device"
	"github.com/runtimed/runtimed/pkg/security/hostpath"
	"github.com/runtimed/runtimed/pkg/security/seccomp"
)

// createSteps of a container's flow are CreateContainer's; the rest are StartContainer's.
const createSteps = 1

// containerFlow is a container from nothing to running, and back: the record as for a sandbox; the empty mount point
// before the shim that mounts there in its own namespace; the bundle before the shim that reads it.
func (r *Runtime) containerFlow(c *container) step.Flow {
	dir := r.Layout.Container(c.spec.SandboxID, c.spec.ID)
	return step.Flow{Name: "container", ID: c.spec.ID, Observe: r.Observe, Steps: []step.Step{
		{Name: "record",
			Do:   func(context.Context) error { return r.store.AddContainer(c.spec) },
			Undo: func(context.Context) error { return r.store.RemoveContainer(c.spec.SandboxID, c.spec.ID) }},
		{Name: "mountpoint",
			Do:   func(context.Context) error { return os.MkdirAll(r.Layout.Rootfs(c.spec.ID), 0o700) },
			Undo: func(context.Context) error { return removeEmpty(r.Layout.Rootfs(c.spec.ID)) }},
		{Name: "bundle",
			Do:   func(context.Context) error { return r.writeBundle(c, dir) },
			Undo: func(context.Context) error { return nil }}, // goes with the record: an exited container's is shown
		{Name: "shim",
			Do:   func(ctx context.Context) error { return r.startShim(ctx, c) },
			Undo: func(ctx context.Context) error { return r.endShim(ctx, c) }},
	}}
}

func removeEmpty(dir string) error {
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// bundle makes the OCI config.json and launch.json of a container, as data. Host paths and devices are looked up anew
// each time: they must be there at Create, to be refused early, and are what they are at Start.
func (r *Runtime) bundle(c *container) (*specs.Spec, spec.Launch, error) {
	in := bundle.Input{
		Container: r.updated(c), Sandbox: c.pod.spec, Layout: r.Layout, PodInit: c.pod.init(),
		ShimCgroup: r.groups().Shim(c.spec.ID), CgroupV2: r.CgroupV2,
		NoSwapLimit: r.NoSwapLimit, NoHugepageLimit: r.NoHugepageLimit,
		Sources: map[string]string{}, NodeHostname: r.NodeHostname,
	}
	filter, err := seccomp.Request{
		Profile: c.spec.Profile.Seccomp, Capabilities: c.spec.Profile.Capabilities.Bounding,
		ImageArchitecture: c.spec.Image.Config.Architecture, Root: r.Node.SeccompRoot,
	}.Filter()
	if err != nil {
		return nil, spec.Launch{}, err
	}
	in.Seccomp = filter
	if in.PIDTarget, err = r.pidOwner(c); err != nil {
		return nil, spec.Launch{}, err
	}
	paths := hostpath.Resolver{Forbidden: []string{r.Layout.Root, r.Layout.Run}}
	for _, m := range c.spec.Request.Mounts {
		if m.Image != "" {
			continue
		}
		real, err := paths.Resolve(m.HostPath)
		if err == nil {
			err = hostpath.CheckPropagation(real, m.Propagation)
		}
		if err != nil {
			return nil, spec.Launch{}, err
		}
		in.Sources[m.HostPath] = real
	}
	set, err := devices(c.spec)
	if err != nil {
		return nil, spec.Launch{}, err
	}
	if in.CDI, err = r.cdiEdits(c.spec, paths, in.Sources); err != nil {
		return nil, spec.Launch{}, err
	}
	in.Devices, in.DeviceRules, in.DeviceSources = set.Devices, set.Rules, set.Sources
	return bundle.Build(in)
}

// cdiEdits are what the container's CDI devices ask for, their host paths resolved into sources.
func (r *Runtime) cdiEdits(s spec.Container, paths hostpath.Resolver, sources map[string]string) (cdi.Edits, error) {
	edits, err := r.CDI.Find(s.Request.CDIDevices, s.Profile.User)
	if err != nil {
		return cdi.Edits{}, err
	}
	for _, m := range edits.Mounts {
		if m.Type == "tmpfs" {
			continue
		}
		real, err := paths.Resolve(m.Source)
		if err != nil {
			return cdi.Edits{}, spec.Errorf(spec.KindOf(err), "CDI_devices: %w", err)
		}
		sources[m.Source] = real
	}
	return edits, nil
}

func devices(s spec.Container) (device.Set, error) {
	if s.Profile.Privileged {
		return device.Privileged(s.Request.Devices)
	}
	return device.Resolve(s.Request.Devices)
}

func (p *pod) init() *spec.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.Init
}

func (r *Runtime) writeBundle(c *container, dir string) error {
	config, launch, err := r.bundle(c)
	if err != nil {
		return err
	}
	if c.spec.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(c.spec.LogPath), 0o755); err != nil {
			return err
		}
	}
	launch.Version = spec.RecordVersion
	// A start that was killed may have left them.
	if err := state.Replace(dir, spec.ConfigFile, config); err != nil {
		return err
	}
	return state.Replace(dir, spec.LaunchFile, launch)
}

func (r *Runtime) launchOf(c *container) (l spec.Launch, err error) {
	err = state.Read(r.Layout.Container(c.spec.SandboxID, c.spec.ID), spec.LaunchFile, &l)
	return l, err
}

func (r *Runtime) startShim(ctx context.Context, c *container) error {
	launch, err := r.launchOf(c)
	if err != nil {
		return err
	}
	return r.Shims.Start(ctx, launch, func(shim spec.Process) error {
		return r.setContainerStatus(c, func(s *spec.ContainerStatus) { s.Shim = &shim })
	})
}

// setContainerStatus changes the recorded status and, once that is written, the remembered one.
func (r *Runtime) setContainerStatus(c *container, change func(*spec.ContainerStatus)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.facts.Status
	next.Version = spec.RecordVersion
	change(&next)
	if err := state.Replace(r.Layout.Container(c.spec.SandboxID, c.spec.ID), spec.StatusFile, next); err != nil {
		return err
	}
	c.facts.Status = next
	return nil
}

// endShim ends the shim and everything in the container's group, and removes what they leave outside the record.
func (r *Runtime) endShim(ctx context.Context, c *container) error {
	if err := r.Cgroups.Kill(ctx, c.spec.CgroupPath); err != nil {
		return err
	}
	if err := r.killShim(ctx, c); err != nil {
		return err
	}
	if err := r.Cgroups.Remove(ctx, c.spec.CgroupPath); err != nil {
		return err
	}
	if err := os.Remove(r.Layout.ShimSocket(c.spec.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(r.Layout.Container(c.spec.SandboxID, c.spec.ID), spec.StateDir))
}

// killShim kills whoever holds the container's shim lock, and a creator that has been let go and does not hold it yet.
func (r *Runtime) killShim(ctx context.Context, c *container) error {
	pid, alive := r.Shims.Alive(r.Layout, c.spec.SandboxID, c.spec.ID)
	if !alive {
		return r.killCreator(ctx, c)
	}
	shim, err := process.Open(spec.Process{PID: pid})
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer shim.Close()
	// Asked again behind the open: if the same pid holds the lock now, the handle is the shim's.
	if again, alive := r.Shims.Alive(r.Layout, c.spec.SandboxID, c.spec.ID); !alive || again != pid {
		return nil
	}
	return killAndWait(ctx, shim)
}

// killCreator kills the process that was recorded before it was let go. Its start ticks and boot say that it is the same.
func (r *Runtime) killCreator(ctx context.Context, c *container) error {
	p := c.read().Status.Shim
	if p == nil || p.StartTicks == 0 || p.BootID != r.bootID {
		return nil
	}
	creator, err := process.Open(*p)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer creator.Close()
	return killAndWait(ctx, creator)
}

func killAndWait(ctx context.Context, h *process.Handle) error {
	if err := h.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return h.Wait(ctx)
}
