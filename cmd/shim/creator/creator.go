package creator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	_ "github.com/opencontainers/cgroups/devices" // without it Start fails: device rules, and no manager for them
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/shim/bundle"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// Options are for the one who builds a program around Main.
type Options struct {
	// Observe sees the steps of the flow "creator"; nil sees nothing.
	Observe step.Observer
	// Monitor is the absolute path of the monitor's program; "" is the one beside this program.
	Monitor string
}

// Main is the creator, for the container with the given record directory. When all went well it does not return: the
// process has become the monitor. Otherwise it has reported why on the status pipe, and returns the exit code.
//
// It must be called from the main goroutine of a process that the launcher started.
func Main(dir string, o Options) int {
	// execve keeps the thread that calls it, and "leave" changes the namespaces of one thread only.
	runtime.LockOSThread()
	for _, fd := range []int{wire.HostMounts, wire.Status, wire.Go} {
		unix.CloseOnExec(fd)
	}
	status := os.NewFile(wire.Status, "status")
	if !recorded() {
		return 0 // the launcher died, or gave up, before anybody knew of this process: nothing was made
	}
	c := &creator{dir: dir, status: status}
	err := c.prepare(o)
	if err == nil {
		f := step.Flow{Name: "creator", ID: filepath.Base(dir), Steps: c.steps(), Observe: o.Observe}
		err = f.Run(context.Background())
		if left := f.Teardown(context.Background()); left != nil {
			fmt.Fprintln(os.Stderr, left) // the daemon's own undo goes over all of it again
		}
	}
	status.Write(wire.FormatError(explain(err)))
	return 1
}

// recorded waits for the launcher's go.
func recorded() bool {
	f := os.NewFile(wire.Go, "go")
	defer f.Close()
	n, _ := f.Read(make([]byte, 1))
	return n == 1
}

// creator is what the steps know and hold.
type creator struct {
	dir     string
	program string // the monitor's
	status  *os.File
	lock    *os.File
	entered chan error // the end of the move to the shims' group

	bundle *bundle.Bundle
	config *configs.Config
	// rootUID and rootGID are the container's root, in the node's ids.
	rootUID, rootGID int

	// mountpoints is the host's directory of empty mount points, from before it was covered.
	mountpoints *os.File
	// sources are detached copies of the bind mounts' sources, by index into config.Mounts.
	sources map[int]source

	pids      *os.File // the PID namespace to join, where it is another's
	state     *os.File // libcontainer's root
	container *libcontainer.Container
	process   *libcontainer.Process
	streams   streams
}

func (c *creator) prepare(o Options) error {
	c.program = o.Monitor
	if c.program == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		c.program = filepath.Join(filepath.Dir(self), monitor.Binary)
	}
	var err error
	c.bundle, err = bundle.Read(c.dir)
	return err
}

// steps are the way from a record to a running monitor. The order is bound by: sources and mountpoint look at the run
// directory, which cover hides; layers, overlay, images and volumes mount below the cover; volumes copies out of the overlay;
// console needs the init; grouped is the end of what group began; leave gives up the mounts, and become the program.
func (c *creator) steps() []step.Step {
	return []step.Step{
		{Name: "lock", Do: c.takeLock},
		{Name: "group", Do: c.enterGroup},
		{Name: "config", Do: c.convert},
		{Name: "processes", Do: c.holdPIDs},
		{Name: "mountpoint", Do: c.makeMountpoint, Undo: c.removeMountpoint},
		{Name: "sources", Do: c.openSources},
		{Name: "cover", Do: c.cover},
		{Name: "layers", Do: c.mapLayers},
		{Name: "overlay", Do: c.mountRoot, Undo: c.removeUpper},
		{Name: "images", Do: c.mountImages},
		{Name: "volumes", Do: c.fillVolumes, Undo: c.removeVolumes},
		{Name: "create", Do: c.create, Undo: c.removeState},
		{Name: "streams", Do: c.openStreams},
		{Name: "start", Do: c.start, Undo: c.kill},
		{Name: "console", Do: c.receiveConsole},
		{Name: "grouped", Do: c.awaitGroup},
		{Name: "leave", Do: c.leave},
		{Name: "become", Do: c.become},
	}
}
