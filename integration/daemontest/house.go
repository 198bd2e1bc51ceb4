package daemontest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The environment tells a re-executed test binary which of the three it is, and what they share.
const (
	envStage  = "RUNTIMED_TEST_STAGE"  // "", "init", "tests"
	envPrefix = "RUNTIMED_TEST_PREFIX" // of every cgroup that is made
	envDir    = "RUNTIMED_TEST_DIR"    // short, searchable by all
)

// HostPIDs in the environment leaves the tests in the machine's own PID namespace. systemd is asked for groups of
// processes by their numbers, which must be its own. It is for a test machine, which ends with its tests.
const HostPIDs = "RUNTIMED_TEST_HOST_PIDS"

func hostPIDs() bool { return os.Getenv(HostPIDs) != "" }

// Main runs the tests of a package in a House.
func Main(m *testing.M) int { return House(m.Run) }

// House calls run in mount, network and PID namespaces of their own, with loopback up, in a copy of this process. In them
// a small init reaps what daemons leave to it; when run has returned, or was killed, the kernel ends everything else. What
// is left of cgroups and files then is removed.
func House(run func() int) int {
	switch os.Getenv(envStage) {
	case "":
		return said(outside())
	case "init":
		return said(inside())
	}
	return run()
}

// Here calls run without namespaces of its own, on a machine that is there for nothing else.
func Here(run func() int) int {
	dir, prefix, err := place()
	if err != nil {
		return said(0, err)
	}
	defer os.RemoveAll(dir)
	defer RemoveCgroups(prefix)
	if err := errors.Join(os.Setenv(envStage, "tests"), os.Setenv(envDir, dir), os.Setenv(envPrefix, prefix)); err != nil {
		return said(0, err)
	}
	return run()
}

func said(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemontest:", err)
		return 1
	}
	return code
}

// place makes the directory of this process's daemons, and names their cgroups.
func place() (dir, prefix string, err error) {
	if os.Geteuid() != 0 {
		return "", "", errors.New("these tests make namespaces, mounts and cgroups: run them as root")
	}
	// Short, because socket paths are; not below TMPDIR, which may be long, or closed to a pod's root.
	dir = "/tmp/rt-" + strings.ToLower(rand.Text()[:4])
	// Underscores: a dash would be a level of its own in a slice's name.
	return dir, "/runtimed_test_" + filepath.Base(dir)[3:], os.Mkdir(dir, 0o755)
}

func outside() (int, error) {
	dir, prefix, err := place()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	defer RemoveCgroups(prefix)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envStage+"=init", envPrefix+"="+prefix, envDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if !hostPIDs() {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	// go test sends SIGQUIT at its timeout and expects the stacks, which the tests' process prints.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("new mount, network and PID namespaces: %w", err)
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// inside is the first process of the PID namespace: it starts the tests and reaps everybody.
func inside() (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return 0, fmt.Errorf("propagation of /: %w", err)
	}
	if hostPIDs() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("subreaper: %w", err)
		}
	} else if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, fmt.Errorf("mount /proc: %w", err)
	}
	if err := upperable(os.Getenv(envDir)); err != nil {
		return 0, err
	}
	// Names that ip-netns(8) gives are files, which other test binaries would see.
	if err := errors.Join(os.MkdirAll("/run/netns", 0o755), unix.Mount("tests", "/run/netns", "tmpfs", 0, "mode=0755")); err != nil {
		return 0, fmt.Errorf("/run/netns: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return 0, fmt.Errorf("loopback: %w", err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	os.Setenv(envStage, "tests")
	tests, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   os.Environ(),
	})
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			tests.Signal(s)
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == tests.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == tests.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// upperable puts a tmpfs over a directory on an overlay, which cannot hold an overlay's upper directory.
func upperable(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return unix.Mount("tests", dir, "tmpfs", 0, "mode=0755")
	}
	return nil
}

// Hierarchies are the mount points of cgroup hierarchies.
func Hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	found, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, f := range found {
		found[i] = filepath.Dir(f)
	}
	return found
}

// RemoveCgroups removes every tree whose name begins with prefix, and kills what is in it, for at most five seconds.
func RemoveCgroups(prefix string) {
	end := time.Now().Add(5 * time.Second)
	for _, h := range Hierarchies() {
		trees, _ := filepath.Glob(h + prefix + "*")
		for _, tree := range trees {
			for !removeTree(tree) && time.Now().Before(end) {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}

func removeTree(tree string) bool {
	var dirs []string
	filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		for _, pid := range numbers(filepath.Join(dirs[i], "cgroup.procs")) {
			unix.Kill(pid, unix.SIGKILL)
		}
		unix.Rmdir(dirs[i])
	}
	_, err := os.Stat(tree)
	return err != nil
}
