package applydiff

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// worker is the binary under test, built as the product is.
var worker string

// TestMain runs the tests in a mount namespace of their own: the host sees no overlay.
func TestMain(m *testing.M) {
	const inside = "APPLYDIFF_INSIDE"
	if os.Getenv(inside) == "" {
		os.Exit(again(inside + "=1"))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "private mounts:", err)
		os.Exit(1)
	}
	unix.Umask(0)
	dir, err := os.MkdirTemp("", "runtimed-test-applydiff-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	worker = filepath.Join(dir, "runtimed-unpack")
	build := exec.Command("go", "build", "-C", "../..", "-tags=seccomp,netgo,osusergo", "-trimpath",
		"-ldflags", `-s -w -linkmode external -extldflags "-static"`, "-o", worker, "./cmd/unpack")
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func again(env string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
