package supervise

import (
	"os"
	"os/exec"
	"testing"
)

func TestExecutes(t *testing.T) {
	want, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if got := executes(os.Getpid()); got != want {
		t.Errorf("this test executes %q, not %q", got, want)
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if got := executes(gone.Process.Pid); got != "" {
		t.Errorf("a process that is gone executes %q", got)
	}
}

func TestAwaitProgramReturns(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	s := &supervisor{}
	s.args.InitPID = other.Process.Pid
	s.awaitProgram("/something/before")
	s.awaitProgram(executes(other.Process.Pid)) // that never executes another: the wait has an end
}
