package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestMisuse: whoever calls a verb wrongly learns how it is called.
func TestMisuse(t *testing.T) {
	d := serveFakes(t, "")
	for _, c := range []struct {
		code int
		args []string
		says []string
	}{
		{125, []string{"run"}, []string{"usage: runtimed run [flags] IMAGE [COMMAND…]", "--help"}},
		{125, []string{"pull"}, []string{"usage: runtimed pull"}},
		{125, []string{"ps", "--bogus"}, []string{"unknown flag", "usage: runtimed ps"}},
		{125, []string{"stop", "-t", "x", "y"}, []string{`"x"`, "--time", "invalid syntax", "usage: runtimed stop"}},
		{1, []string{"pul"}, []string{`"runtimed pul"`, "is pull meant?"}},
		{1, []string{"nonsense"}, []string{"runtimed --help"}},
		{1, []string{"config", "chek"}, []string{"is check meant?"}},
		{125, []string{"run", ""}, []string{"name of the image is empty"}},
		{125, []string{"pull", ""}, []string{"name of the image is empty"}},
		{125, []string{"pull", "\xff"}, []string{"not UTF-8"}},
		{125, []string{"run", "-w", "rel", "x"}, []string{`-w "rel"`, "begins with /"}},
		{125, []string{"run", "x", "\xff"}, []string{"an argument", "not UTF-8"}},
		{125, []string{"ps", "-q", "-o", "json"}, []string{"-q and -o"}},
		{125, []string{"ps", "--socket", "", "--config", "/nope.toml"}, []string{`"/nope.toml" is not there`}},
	} {
		a := d.wants(c.code, c.says, c.args...)
		if strings.Contains(a.err, "strconv") || strings.Contains(a.err, "rpc error") {
			t.Errorf("%v: %s", c.args, a.err)
		}
	}
	if len(d.pods()) != 0 {
		t.Error("something was made")
	}
	if a := d.wants(0, nil, "exec", "--help"); strings.Contains(a.out, "… [flags]") {
		t.Errorf("exec takes no flags behind its command: %s", a.out)
	}
}

// fullDisk is /dev/full.
type fullDisk struct{ io.Writer }

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestNothingPrintedIsNoSuccess: what could not be printed is not taken for an empty answer.
func TestNothingPrintedIsNoSuccess(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "x", "busybox")
	for _, args := range [][]string{
		{"pull", "busybox"}, {"run", "-d", "busybox"}, {"ps"}, {"ps", "-q"}, {"version"}, {"inspect", "x"}, {"exec", "x", "echo", "hi"}, {"stop", "x"},
	} {
		cmd := root()
		cmd.SetArgs(append([]string{"--socket", d.socket}, args...))
		cmd.SetOut(fullDisk{})
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || exitCode(err) != 125 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestInterruptedCall: a call that a signal breaks off ends as the signal would have ended it.
func TestInterruptedCall(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		d := serveFakes(t, "")
		d.wants(0, nil, "run", "-d", "--name", "x", "busybox")
		d.runtime.Hook = func(ctx context.Context, m string) error {
			if m == "StopContainer" {
				syscall.Kill(os.Getpid(), sig)
				<-ctx.Done()
			}
			return ctx.Err()
		}
		d.wants(code, []string{"interrupted"}, "stop", "x")
	}
}

// TestNameTakenMeanwhile: of two runs with one name at one time at most one is left with it.
func TestNameTakenMeanwhile(t *testing.T) {
	d := serveFakes(t, "")
	var other answer
	d.runtime.Hook = func(_ context.Context, m string) error {
		if m == "RunSandbox" { // the other one comes between the look at the names and the pod
			d.runtime.Hook = nil
			other = d.cli("run", "-d", "--name", "x", "busybox")
		}
		return nil
	}
	d.wants(125, []string{`--name "x"`, "has it"}, "run", "-d", "--name", "x", "busybox")
	if left := d.pods(); other.code != 0 || len(left) != 1 || left[0].Containers[0].Spec.ID != strings.TrimSpace(other.out) {
		t.Errorf("%+v, left %v", other, left)
	}
}

// TestAmbiguousName: a name that two have is not said to be nobody's.
func TestAmbiguousName(t *testing.T) {
	d := serveFakes(t, "")
	for _, name := range []string{"a", "b"} {
		d.wants(0, nil, "run", "-d", "--name", name, "busybox")
	}
	const both = "0000" // the fake counts its ids, with zeros in front
	for _, verb := range []string{"rm", "inspect", "logs"} {
		a := d.wants(125, []string{"means 2 containers", "give one's id"}, verb, both)
		if strings.Contains(a.err, "nor a pod") || strings.Contains(a.err, "there is no") {
			t.Errorf("%s: %s", verb, a.err)
		}
	}
}

func TestQuietListsAndCompletion(t *testing.T) {
	d := serveFakes(t, "")
	d.wants(0, nil, "run", "-d", "--name", "web", "busybox")
	p := d.pods()[0]
	for list, want := range map[string]string{"ps": p.Containers[0].Spec.ID + "\n", "pods": p.Spec.ID + "\n"} {
		if a := d.wants(0, nil, list, "-q"); a.out != want {
			t.Errorf("%s -q: %q", list, a.out)
		}
	}
	d.wants(0, []string{"sha256:"}, "images", "-q")
	for _, verb := range []string{"stop", "logs", "exec", "rm", "inspect", "kill", "stats", "update"} {
		d.wants(0, []string{"web\n"}, "__complete", verb, "")
	}
	d.wants(0, []string{"busybox"}, "__complete", "rmi", "")
	d.stop()
	if a := d.wants(0, nil, "__complete", "stop", ""); strings.Contains(a.out, "web") {
		t.Errorf("%+v", a)
	}
}

func TestSpoken(t *testing.T) {
	if got := spoken(errors.Join(errors.New("a"), errors.New("b"))); got != "runtimed: a\nruntimed: b" {
		t.Errorf("%q", got)
	}
	if got := spoken(errors.New("a\nb")); got != "runtimed: a\nb" {
		t.Errorf("%q", got)
	}
}
