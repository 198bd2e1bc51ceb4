package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/cmd/shim/creator"
	"github.com/runtimed/runtimed/cmd/shim/stage"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// ownHost says that this process is in a mount namespace of the tests, which they take for the host's.
const ownHost = "RUNTIMED_TEST_OWN_HOST"

// readyMonitor names a monitor that is built already, for machines without a compiler.
const readyMonitor = "RUNTIMED_TEST_MONITOR"

// built is where the real monitor was built.
var built string

// TestMain makes the test's own binary the shim (a creator, a stage and libcontainer's init with an observer that can
// fail or kill at a step), and runs the tests in a mount namespace of their own, in which everything is shared as
// systemd leaves it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case wire.VerbInit:
			libcontainer.Init()
		case wire.VerbCreate:
			os.Exit(creator.Main(os.Args[2], creator.Options{Observe: observer(os.Args[2]), Monitor: besideMonitor()}))
		case wire.VerbExec:
			os.Exit(stage.Main(os.Args[2], stage.Options{Observe: observer(os.Args[2])}))
		}
	}
	if len(os.Args) == 3 && os.Args[1] == daemonVerb {
		os.Exit(daemon(os.Args[2]))
	}
	if os.Getenv(ownHost) == "" {
		os.Exit(inOwnHost())
	}
	os.Exit(run(m))
}

func inOwnHost() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), ownHost+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	for _, p := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", p|unix.MS_REC, ""); err != nil {
			fmt.Fprintln(os.Stderr, "propagation of /:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "runtimed-test-shim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = dir
	if err := buildAndLink(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// buildAndLink puts the real monitor beside a copy of this binary, as an installation has them.
func buildAndLink(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if ready := os.Getenv(readyMonitor); ready != "" {
		if err := exec.Command("cp", ready, filepath.Join(dir, monitor.Binary)).Run(); err != nil {
			return err
		}
		return copySelf(dir)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, monitor.Binary), "./monitor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build of the monitor: %w", err)
	}
	return copySelf(dir)
}

func copySelf(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return exec.Command("cp", self, filepath.Join(dir, wire.Binary)).Run()
}

func besideMonitor() string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Join(filepath.Dir(self), monitor.Binary)
}

// fault is what a test wants to happen at a step: its file in the record directory is read by the shim's observer.
type fault struct {
	Flow, Step string
	Phase      step.Phase
	Do         string // "fail", "kill", "stop"; "log" appends every event to the file events instead
}

const faultFile = "fault.json"

func observer(dir string) step.Observer {
	b, err := os.ReadFile(filepath.Join(dir, faultFile))
	if err != nil {
		return nil
	}
	var faults []fault
	if err := json.Unmarshal(b, &faults); err != nil {
		panic(err)
	}
	return func(e step.Event) error {
		for _, f := range faults {
			if f.Do == "log" && f.Flow == e.Flow {
				appendLine(filepath.Join(dir, "events"), e.Step+" "+string(e.Phase))
			}
			if f.Flow != e.Flow || f.Step != e.Step || f.Phase != e.Phase {
				continue
			}
			switch f.Do {
			case "fail":
				return errors.New("injected")
			case "kill":
				unix.Kill(os.Getpid(), unix.SIGKILL)
			case "stop":
				unix.Kill(os.Getpid(), unix.SIGSTOP)
			}
		}
		return nil
	}
}

func appendLine(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}
