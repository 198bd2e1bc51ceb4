package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var (
	sid = strings.Repeat("a", 64)
	cid = strings.Repeat("b", 64)
)

func open(t *testing.T) Store {
	t.Helper()
	s, err := Open(spec.Layout{Root: filepath.Join(t.TempDir(), "root")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filled has one sandbox with one container, both complete.
func filled(t *testing.T) Store {
	t.Helper()
	s := open(t)
	dir, cdir := s.Layout.Sandbox(sid), s.Layout.Container(sid, cid)
	err := errors.Join(
		s.AddSandbox(spec.Sandbox{Version: 1, ID: sid}),
		Replace(dir, spec.StatusFile, spec.SandboxStatus{Version: 1, ReadyAt: 7}),
		WriteOnce(dir, spec.NetworkFile, spec.NetworkResult{Version: 1, HostVeth: "v"}),
		s.AddContainer(spec.Container{Version: 1, ID: cid, SandboxID: sid}),
		Replace(cdir, spec.StatusFile, spec.ContainerStatus{Version: 1, StartingAt: 8}),
		WriteOnce(cdir, spec.StartedFile, spec.Started{Version: 1, StartedAt: 9}),
		WriteOnce(cdir, spec.ExitFile, spec.Exit{Version: 1, Code: 3}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadGivesBackWhatWasWritten(t *testing.T) {
	s := filled(t)
	good, bad, err := s.Load()
	if err != nil || len(bad) != 0 || len(good) != 1 || len(good[0].Containers) != 1 {
		t.Fatalf("%+v, %+v, %v", good, bad, err)
	}
	r, c := good[0], good[0].Containers[0]
	if r.Spec.ID != sid || r.Status.ReadyAt != 7 || r.Network.HostVeth != "v" ||
		c.Spec.ID != cid || c.Facts.Status.StartingAt != 8 || c.Facts.Started.StartedAt != 9 || c.Facts.Exit.Code != 3 {
		t.Errorf("%+v %+v", r, c)
	}
}

func TestWriteOnceKeepsTheFirst(t *testing.T) {
	s := filled(t)
	dir := s.Layout.Container(sid, cid)
	if err := WriteOnce(dir, spec.ExitFile, spec.Exit{Version: 1, Code: 4}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a fact was written twice: %v", err)
	}
	if err := s.AddSandbox(spec.Sandbox{Version: 1, ID: sid}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a record was made twice: %v", err)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("a temporary file stayed: %s", e.Name())
		}
	}
}

// Every file of a record, damaged in every way: it is named, and nothing else is lost.
func TestDamageIsNamed(t *testing.T) {
	damages := map[string]func(string) error{
		"emptied":         func(p string) error { return os.Truncate(p, 0) },
		"cut off":         func(p string) error { return os.Truncate(p, 5) },
		"scrambled":       func(p string) error { return os.WriteFile(p, []byte("\x00\x01{]"), 0o600) },
		"another version": func(p string) error { return os.WriteFile(p, []byte(`{"Version":99}`), 0o600) },
		"of another type": func(p string) error { return os.WriteFile(p, []byte(`{"Version":1,"ID":[]}`), 0o600) },
		"a directory":     func(p string) error { os.Remove(p); return os.Mkdir(p, 0o700) },
		"a FIFO":          func(p string) error { os.Remove(p); return unix.Mkfifo(p, 0o600) },
		"a link":          func(p string) error { os.Remove(p); return os.Symlink("/dev/zero", p) },
		"too large":       func(p string) error { return os.Truncate(p, maxFile+1) },
	}
	for name, damage := range damages {
		for _, file := range []string{spec.SpecFile, spec.StatusFile, spec.NetworkFile, "c/" + spec.SpecFile, "c/" + spec.StatusFile, "c/" + spec.StartedFile, "c/" + spec.ExitFile} {
			if name == "of another type" && !strings.HasSuffix(file, spec.SpecFile) {
				continue // no ID there
			}
			s := filled(t)
			dir, ofContainer := s.Layout.Sandbox(sid), strings.HasPrefix(file, "c/")
			if ofContainer {
				dir = s.Layout.Container(sid, cid)
			}
			if err := damage(filepath.Join(dir, strings.TrimPrefix(file, "c/"))); err != nil {
				t.Fatal(err)
			}
			good, bad, err := s.Load()
			if err != nil || len(bad) != 1 {
				t.Errorf("%s %s: %+v, %v", file, name, bad, err)
				continue
			}
			if !errors.Is(bad[0].Err, ErrTorn) || bad[0].SandboxID != sid || (bad[0].ContainerID == cid) != ofContainer || (len(good) == 1) != ofContainer {
				t.Errorf("%s %s: %d good, bad %+v", file, name, len(good), bad[0])
			}
			where, err := s.SetAside(bad[0])
			if err != nil {
				t.Errorf("%s %s: %v", file, name, err)
			}
			if _, err := os.Stat(where); err != nil {
				t.Error(err)
			}
			if _, bad, _ := s.Load(); len(bad) != 0 {
				t.Errorf("%s %s: still there after it was set aside", file, name)
			}
		}
	}
}

func TestARecordOfAnotherIDIsBad(t *testing.T) {
	s := filled(t)
	other := strings.Repeat("c", 64)
	os.Rename(s.Layout.Sandbox(sid), s.Layout.Sandbox(other))
	os.Mkdir(s.Layout.Sandbox("not-an-id"), 0o700)
	good, bad, err := s.Load()
	if err != nil || len(good) != 0 || len(bad) < 2 {
		t.Errorf("%v %v %v", good, bad, err)
	}
}

func TestSetAsideTwice(t *testing.T) {
	s := open(t)
	seen := map[string]bool{}
	for range 3 {
		if err := s.AddSandbox(spec.Sandbox{Version: 1, ID: sid}); err != nil {
			t.Fatal(err)
		}
		where, err := s.SetAside(Bad{SandboxID: sid})
		if err != nil || seen[where] {
			t.Fatal(where, err)
		}
		seen[where] = true
	}
}

func TestRemoveIsWholeAndMayBeRepeated(t *testing.T) {
	s := filled(t)
	os.MkdirAll(filepath.Join(s.Layout.Container(sid, cid), spec.UpperDir, "a/b"), 0o700)
	for range 2 {
		if err := errors.Join(s.RemoveContainer(sid, cid), s.RemoveSandbox(sid)); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := os.ReadDir(s.trash())
	if good, bad, _ := s.Load(); len(good)+len(bad)+len(left) != 0 {
		t.Errorf("%v %v %v", good, bad, left)
	}
}

func TestOpenFinishesARemovalThatWasKilled(t *testing.T) {
	s := filled(t)
	if err := os.Rename(s.Layout.Sandbox(sid), filepath.Join(s.trash(), sid)); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.Layout)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(again.trash()); len(left) != 0 {
		t.Errorf("%v", left)
	}
	for _, d := range []string{s.Layout.Root, s.Layout.Sandboxes()} {
		if st, _ := os.Stat(d); st.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %o", d, st.Mode().Perm())
		}
	}
}

func TestObserve(t *testing.T) {
	started, exit := &spec.Started{}, &spec.Exit{}
	starting := spec.ContainerStatus{StartingAt: 1}
	for _, c := range []struct {
		name string
		o    Observation
		want Verdict
	}{
		{"just created", Observation{SameBoot: true}, VerdictCreated},
		{"running", Observation{Facts: spec.Facts{Status: starting, Started: started}, SameBoot: true, ShimAlive: true}, VerdictRunning},
		{"being started", Observation{Facts: spec.Facts{Status: starting}, SameBoot: true, ShimAlive: true}, VerdictStarting},
		{"its creator died", Observation{Facts: spec.Facts{Status: starting}, SameBoot: true}, VerdictBroken},
		{"its monitor died", Observation{Facts: spec.Facts{Status: starting, Started: started}, SameBoot: true}, VerdictLost},
		{"ended", Observation{Facts: spec.Facts{Status: starting, Started: started, Exit: exit}, SameBoot: true}, VerdictEnded},
		{"ended, and its shim is still leaving", Observation{Facts: spec.Facts{Started: started, Exit: exit}, SameBoot: true, ShimAlive: true}, VerdictEnded},
		{"the daemon's own verdict", Observation{Facts: spec.Facts{Status: spec.ContainerStatus{Lost: exit}}, SameBoot: true}, VerdictEnded},
		{"ran before a reboot", Observation{Facts: spec.Facts{Status: starting, Started: started}}, VerdictRebooted},
		{"created before a reboot", Observation{}, VerdictRebooted},
		{"ended before a reboot", Observation{Facts: spec.Facts{Exit: exit}}, VerdictEnded},
		{"another process has its shim's pid after a reboot", Observation{Facts: spec.Facts{Started: started}, ShimAlive: true}, VerdictRebooted},
	} {
		if got := Observe(c.o); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"x"}`))
	f.Add([]byte(`{"Version":1,"Facts":{}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		os.WriteFile(filepath.Join(dir, "f"), b, 0o600)
		for _, v := range []any{new(spec.Sandbox), new(spec.Container), new(spec.ContainerStatus), new(spec.Exit), new(spec.NetworkResult)} {
			if err := Read(dir, "f", v); err != nil && !errors.Is(err, ErrTorn) {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}
