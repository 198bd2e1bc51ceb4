// Command conformance runs critest against a daemon of its own.
//
//	conformance digest           prints the digest that critest must be built with
//	conformance images DIR       makes the images that critest asks for, as an OCI layout
//	conformance run [flags]      runs critest and writes the results, spec by spec
//
// It needs root. "run" works in mount, network and PID namespaces of its own, or with -here on a machine that is there for
// nothing else. With RUNTIMED_TEST_BIN=DIR it builds nothing, and takes the product's programs from there. It ends with 0
// when no spec failed, only those were skipped that may be, and nothing was left on the machine.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/runtimed/runtimed/integration/conformance/image"
	"github.com/runtimed/runtimed/integration/daemontest"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "digest":
		fmt.Println(image.Digest())
		return nil
	case len(args) == 2 && args[0] == "images":
		return images(args[1])
	case len(args) > 0 && args[0] == "run":
		o, err := flags(args[1:])
		if err != nil {
			return err
		}
		house := daemontest.House
		if o.here {
			house = daemontest.Here
		}
		os.Exit(house(func() int { return run(o) }))
	}
	return errors.New("usage: conformance digest | images DIR | run [flags]")
}

// options of run.
type options struct {
	critest, images, out      string
	runs                      int
	focus, config, cgroup     string
	policy, differ            string
	here, websocket, apparmor bool
	args                      []string
}

func flags(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.StringVar(&o.critest, "critest", ".cache/bin/critest", "critest's test binary, built with the digest that `conformance digest` prints")
	f.StringVar(&o.images, "images", ".cache/conformance/images", "OCI layout that `conformance images` made")
	f.StringVar(&o.out, "out", ".cache/conformance/result", "directory for record.md, the reports and the daemon's log")
	f.IntVar(&o.runs, "runs", 1, "full runs, one after the other, against one daemon")
	f.StringVar(&o.focus, "focus", "", "only specs that match this regular expression")
	f.StringVar(&o.config, "config", "", "file that is appended to the daemon's configuration")
	f.StringVar(&o.cgroup, "cgroup", "", "lines for the configuration's table [cgroup]")
	f.StringVar(&o.policy, "policy", "cri", "the daemon's security.policy")
	f.StringVar(&o.differ, "differ", "", "file with the names of specs that must fail under this policy, a line each")
	f.BoolVar(&o.here, "here", false, "no namespaces of its own: this machine is there for nothing else")
	f.BoolVar(&o.websocket, "websocket", false, "exec, attach and port-forward over WebSocket in the place of SPDY")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.args = f.Args()
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	o.apparmor = strings.HasPrefix(string(enabled), "Y")
	for _, path := range []*string{&o.critest, &o.images, &o.out} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return o, err
		}
		*path = abs
	}
	return o, nil
}

// images makes the layout from what this machine has.
func images(dir string) error {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: install busybox-static", err)
	}
	p := image.Programs{}
	if p.Busybox, err = os.ReadFile(path); err != nil {
		return err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", path, err)
	}
	p.Applets = strings.Fields(string(applets))
	standin := filepath.Join(os.TempDir(), fmt.Sprint("standin-", os.Getpid()))
	defer os.Remove(standin)
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", standin, "./integration/conformance/standin")
	build.Dir, build.Env = daemontest.Tree(), append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build, err, bytes.TrimSpace(said))
	}
	if p.Standin, err = os.ReadFile(standin); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return image.Write(dir, image.All(p))
}
