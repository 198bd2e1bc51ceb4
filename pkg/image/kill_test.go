package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// killEnv makes the test binary a daemon that pulls one image and kills itself at a point: "root ref step phase".
const killEnv = "RUNTIMED_TEST_KILL"

func TestMain(m *testing.M) {
	if plan := os.Getenv(killEnv); plan != "" {
		die(strings.Fields(plan))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// die pulls, and is killed with SIGKILL after the do of a step, or in the middle of its undo (before it, with all later
// ones undone).
func die(plan []string) {
	root, ref, name, phase := plan[0], plan[1], plan[2], step.Phase(plan[3])
	n := &node{layout: spec.Layout{Root: root, Run: root}, unpacker: &unpacker{}, log: &syncBuffer{}}
	n.t = &testing.T{}
	n.open()
	n.watch(func(e step.Event) error {
		if e.Step == name && e.Phase == phase {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if phase == step.Undoing && e.Step == "commit" && e.Phase == step.Doing {
			return fmt.Errorf("planned failure")
		}
		return nil
	})
	n.Pull(context.Background(), spec.PullRequest{Ref: ref})
}

func TestKilledAtEveryStep(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", app("1"))
	for _, name := range stepNames {
		for _, phase := range []step.Phase{step.Done, step.Undoing} {
			t.Run(name+" "+string(phase), func(t *testing.T) {
				root := filepath.Join(t.TempDir(), "root")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %s", killEnv, root, r.Ref("app:1"), name, phase))
				out, _ := cmd.CombinedOutput()
				if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
					t.Fatalf("the daemon was not killed: %v: %s", cmd.ProcessState, out)
				}
				n := &node{t: t, layout: spec.Layout{Root: root, Run: root}, unpacker: &unpacker{}, log: &syncBuffer{}}
				n.open()
				defer n.Close()
				images, err := n.List(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				if whole := name == "commit" && phase == step.Done; (len(images) == 1) != whole {
					t.Errorf("%d images", len(images))
				}
				if aside, _ := os.ReadDir(n.layout.Quarantine()); len(aside) != 0 {
					t.Errorf("set aside: %v", aside)
				}
				n.wantClean()
				if id := n.mustPull(r.Ref("app:1")); id != b.ID {
					t.Errorf("then: %s", id)
				}
				n.wantClean()
			})
		}
	}
}
