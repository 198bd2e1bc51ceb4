package serve

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security"
)

func TestPrograms(t *testing.T) {
	c := config.Default()
	c.Libexec = t.TempDir()
	for _, name := range []string{"runtimed-shim", "runtimed-monitor", "runtimed-init", "runtimed-unpack"} {
		_, err := programs(c)
		if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.Libexec) {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(c.Libexec, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if dir, err := programs(c); err != nil || dir != c.Libexec {
		t.Errorf("directory is %s, %v", dir, err)
	}
}

func TestNetworkOfOneVersion(t *testing.T) {
	for _, change := range []func(*config.Network){
		func(*config.Network) {}, func(n *config.Network) { n.Subnet = "" }, func(n *config.Network) { n.Subnet6 = "" },
	} {
		c := config.Default()
		change(&c.Network)
		n, err := newNetwork(c, Options{})
		if err != nil {
			t.Errorf("%+v: %v", c.Network, err)
			continue
		}
		n.Close()
	}
	c := config.Default()
	c.Network.Subnet = "nonsense"
	if _, err := newNetwork(c, Options{}); err == nil {
		t.Error("nonsense is taken")
	}
}

func TestNodeFollowsTheConfiguration(t *testing.T) {
	c := config.Default()
	c.Security.Policy, c.Security.SeccompRoot, c.Security.Capabilities, c.Userns.Size = "cri", "/seccomp", []string{"CAP_KILL"}, 1<<17
	n, err := nodeOf(c, slog.New(slog.DiscardHandler))
	if err != nil || n.Policy != security.PolicyCRI || n.SeccompRoot != "/seccomp" || len(n.DefaultCapabilities) != 1 || n.PoolSize != 1<<17 ||
		len(n.HeldCapabilities) == 0 {
		t.Errorf("%+v, %v", n, err)
	}
}

type inUse []spec.ImageUse

func (i inUse) ImagesInUse() []spec.ImageUse { return i }

// TestUsersWaitForTheRecords: before they are read, nobody can say that an image is not in use.
func TestUsersWaitForTheRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		settle func(*users)
		want   int
	}{
		"known":   {func(u *users) { u.is(inUse{{ID: "a"}}) }, 1},
		"never":   {func(u *users) { u.end() }, 0},
		"at last": {func(u *users) { u.is(inUse{{ID: "a"}}); u.end() }, 1},
	} {
		u := &users{known: make(chan struct{})}
		answer := make(chan []spec.ImageUse, 1)
		go func() { answer <- u.images() }()
		select {
		case <-answer:
			t.Fatalf("%s: an answer before the records are read", name)
		case <-time.After(10 * time.Millisecond):
		}
		tc.settle(u)
		if got := <-answer; len(got) != tc.want {
			t.Errorf("%s: in use: %v", name, got)
		}
	}
}

func TestSpecReader(t *testing.T) {
	l := spec.Layout{Root: t.TempDir()}
	read := specReader(l)
	if b, err := read("s", "c"); err != nil || b != nil {
		t.Errorf("nothing there: %q, %v", b, err)
	}
	path := filepath.Join(l.Container("s", "c"), spec.ConfigFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := read("s", "c"); err == nil {
		t.Error("a link is followed")
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if b, err := read("s", "c"); err != nil || string(b) != "{}" {
		t.Errorf("there: %q, %v", b, err)
	}
}

func TestLeavingIsBackwards(t *testing.T) {
	var l leaving
	got := ""
	for _, s := range []string{"a", "b", "c"} {
		l.later(func() error { got += s; return errors.New("ignored") })
	}
	l.all()
	if got != "cba" {
		t.Error(got)
	}
}
