package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ReadyBin names a directory that holds all programs already, for machines without a compiler.
const ReadyBin = "RUNTIMED_TEST_BIN"

// Tree is the root of the repository: the directory above the test's own that has the daemon's sources. A binary built
// with -trimpath knows nothing better.
var Tree = sync.OnceValue(func() string {
	at, err := os.Getwd()
	for ; err == nil && at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "cmd", "runtimed", "main.go")); err == nil {
			return at
		}
	}
	return "/"
})

var programs = sync.OnceValues(build)

// Bin is the directory of the five programs, built from the tree as it is, and crictl.
func Bin(t TB) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatalf("the programs: %v", err)
	}
	return dir
}

// Go builds a static program for containers from a package of the tree, such as "./integration/e2e/probe", and returns
// its path. With ReadyBin set it is the file there with the package's last name.
func Go(t TB, pkg string) string {
	t.Helper()
	path := filepath.Join(Bin(t), filepath.Base(pkg))
	if os.Getenv(ReadyBin) != "" {
		return path
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, pkg)
	cmd.Dir, cmd.Env = Tree(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// build makes what is not up to date, one test binary after the other.
func build() (string, error) {
	if dir := os.Getenv(ReadyBin); dir != "" {
		return dir, nil
	}
	dir := filepath.Join(Tree(), ".cache", "test-bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	const static = `-s -w -linkmode external -extldflags "-static"`
	for _, p := range []struct{ name, pkg, cgo, flags string }{
		{"runtimed", "./cmd/runtimed", "1", static},
		{"runtimed-shim", "./cmd/shim", "1", static},
		{"runtimed-unpack", "./cmd/unpack", "1", static},
		{"runtimed-monitor", "./cmd/shim/monitor", "0", "-s -w"},
		{"runtimed-init", "./cmd/podinit", "0", "-s -w"},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags=seccomp,netgo,osusergo", "-ldflags", p.flags,
			"-o", filepath.Join(dir, p.name), p.pkg)
		cmd.Dir = Tree()
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", p.pkg, err, out)
		}
	}
	return dir, crictl(filepath.Join(dir, "crictl"))
}

// crictl is built from its own module by the Makefile's rule, which takes minutes once.
func crictl(to string) error {
	from := filepath.Join(Tree(), ".cache", "bin", "crictl")
	if out, err := exec.Command("make", "-s", "-C", Tree(), ".cache/bin/crictl").CombinedOutput(); err != nil {
		return fmt.Errorf("make .cache/bin/crictl: %w\n%s", err, out)
	}
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(from, to)
}
