package creator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/process"
)

// leave goes back to the host's mount namespace, on this thread. From here on only the container holds its mounts: a
// monitor that stayed would keep copies of other pods' pins and of every volume of the node.
func (c *creator) leave(context.Context) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns refuses where other threads share the root directory
		return os.NewSyscallError("unshare", err)
	}
	return os.NewSyscallError("setns", unix.Setns(wire.HostMounts, unix.CLONE_NEWNS))
}

// become executes the monitor in this process: it stays the parent of the container's init.
func (c *creator) become(context.Context) error {
	args, err := c.monitorArgs()
	if err != nil {
		return err
	}
	// The launcher's pipe for complaints ends here.
	if err := unix.Dup3(0, 2, 0); err != nil {
		return os.NewSyscallError("dup", err)
	}
	for _, fd := range []int{args.Stdout, args.Stderr, args.Stdin, args.Console, args.Status, args.Lock} {
		if fd < 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	// One thread's worth of heap arenas: the monitor mostly waits.
	err = syscall.Exec(c.program, append([]string{c.program}, args.Argv()...), []string{"GOMAXPROCS=1"})
	return &os.PathError{Op: "exec", Path: c.program, Err: err}
}

func (c *creator) monitorArgs() (monitor.Args, error) {
	l := c.bundle.Launch
	pid, err := c.process.Pid()
	if err != nil {
		return monitor.Args{}, err
	}
	boot, err := process.BootID()
	if err != nil {
		return monitor.Args{}, err
	}
	init, err := process.Identify(pid, boot)
	if err != nil {
		return monitor.Args{}, fmt.Errorf("the container's init: %w", err)
	}
	state, err := c.container.State()
	if err != nil {
		return monitor.Args{}, err
	}
	a := monitor.Args{
		ContainerID: l.ContainerID, Dir: c.dir, Socket: l.Layout.ShimSocket(l.ContainerID), LogPath: l.LogPath,
		Fifo:    filepath.Join(c.bundle.StateDir(), l.ContainerID, "exec.fifo"),
		InitPID: init.PID, InitTicks: init.StartTicks, BootID: boot,
		TTY: l.TTY, StdinOnce: l.StdinOnce,
		Stdout: number(c.streams.fromStdout), Stderr: number(c.streams.fromStderr), Stdin: number(c.streams.toStdin),
		Console: number(c.streams.console), Status: number(c.status), Lock: number(c.lock),
	}
	groupFiles(&a, state.CgroupPaths, cgroups.IsCgroup2UnifiedMode())
	return a, nil
}

func number(f *os.File) int {
	if f == nil {
		return -1
	}
	return int(f.Fd())
}

// groupFiles names the kernel's files by which the monitor counts OOM kills and kills what outlives the init. On a
// hybrid machine libcontainer makes the group in the v2 hierarchy too, under the key "".
func groupFiles(a *monitor.Args, groups map[string]string, v2 bool) {
	unified := groups[""]
	oom := filepath.Join(groups["memory"], "memory.oom_control")
	if v2 {
		oom = filepath.Join(unified, "memory.events")
	}
	if filepath.IsAbs(oom) && exists(oom) {
		a.OOMFile = oom
	}
	if unified != "" {
		if kill := filepath.Join(unified, "cgroup.kill"); exists(kill) {
			a.KillFiles = []string{kill}
			return
		}
		a.ProcsFiles = []string{filepath.Join(unified, "cgroup.procs")}
		return
	}
	a.ProcsFiles = []string{filepath.Join(groups["devices"], "cgroup.procs")} // always there on v1: libcontainer insists
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
