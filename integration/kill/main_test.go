package kill

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const holderVerb = "hold-a-world"

// built is the directory of the programs.
var built string

var long = os.Getenv("RUNTIMED_TEST_LONG") != ""

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == holderVerb {
		if err := hold(); err != nil {
			fmt.Fprintln(os.Stderr, "holder:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "killbin")
	if err == nil {
		defer os.RemoveAll(dir)
		built = dir
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// hold is the first process of a world: it holds its namespaces and reaps its orphans, until its stdin ends.
func hold() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	go func() {
		for {
			if pid, _ := syscall.Wait4(-1, nil, 0, nil); pid <= 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

func build() error {
	for _, b := range []struct {
		name, pkg string
		cgo       bool
	}{
		{"runtimed-shim", "./integration/killmain/shim", true},
		{"daemon", "./integration/killmain/daemon", true},
		{"runtimed-unpack", "./cmd/unpack", true},
		{"runtimed-monitor", "./cmd/shim/monitor", false},
		{"runtimed-init", "./cmd/podinit", false},
	} {
		if err := compile(b.name, b.pkg, b.cgo); err != nil {
			return err
		}
	}
	return nil
}

// compile builds a program as the Makefile does.
func compile(name, pkg string, cgo bool, more ...string) error {
	args := append([]string{"build", "-trimpath", "-o", filepath.Join(built, name)}, more...)
	env := append(os.Environ(), "GOFLAGS=-tags=seccomp,netgo,osusergo", "CGO_ENABLED=0")
	if cgo {
		env[len(env)-1] = "CGO_ENABLED=1"
		args = append(args, "-ldflags", `-s -w -linkmode external -extldflags "-static"`)
	} else {
		args = append(args, "-ldflags", "-s -w")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir, cmd.Env = "../..", env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// raced builds the daemon under the race detector.
var raced = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-race", "-o", filepath.Join(built, "daemon.race"), "./integration/killmain/daemon")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "GOFLAGS=-tags=seccomp,netgo,osusergo", "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build -race: %w\n%s", err, out)
	}
	return nil
})
