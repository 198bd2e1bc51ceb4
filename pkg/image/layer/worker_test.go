package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// fake is a worker that is a shell script. It runs where the worker does: as the first process of its namespaces.
func fake(t *testing.T, script string) Worker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker")
	// A descriptor that another test's fork holds for writing would make the start fail with ETXTBSY.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return Worker{Path: path}
}

func request(t *testing.T) Request {
	t.Helper()
	blob, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blob.Close() })
	return Request{Blob: blob, Compression: None, DiffID: digest, Target: t.TempDir()}
}

func TestWorkerAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   Result
		kind   error
		text   string
	}{
		"ok":              {"cat <&5 >/dev/null; echo ok 5 2 >&4", Result{Bytes: 5, Entries: 2}, nil, ""},
		"job unread":      {"echo ok 5 2 >&4", Result{Bytes: 5, Entries: 2}, nil, ""},
		"bad archive":     {"echo error invalid layer: bad >&4", Result{}, errdefs.ErrInvalidArgument, "layer: bad"},
		"limit":           {"echo error exhausted layer: big >&4", Result{}, errdefs.ErrResourceExhausted, "layer: big"},
		"error and exit":  {"echo error invalid layer: bad >&4; exit 3", Result{}, errdefs.ErrInvalidArgument, "layer: bad"},
		"disk":            {"echo error unavailable layer: disk >&4", Result{}, errdefs.ErrUnavailable, "layer: disk"},
		"silent":          {"exit 0", Result{}, errdefs.ErrAborted, "without an answer"},
		"exit 1":          {"echo why it failed >&2; exit 1", Result{}, errdefs.ErrAborted, "exit status 1; it said: why it failed"},
		"ok, exit 1":      {"echo ok 1 1 >&4; exit 1", Result{}, errdefs.ErrAborted, "exit status 1"},
		"garbage":         {"echo hello >&4", Result{}, errdefs.ErrAborted, "not understood"},
		"garbage, exit 1": {"echo hello >&4; exit 1", Result{}, errdefs.ErrAborted, "not understood"},
		"flood":           {"while :; do echo ok 1 1 >&4 || exit; done", Result{}, errdefs.ErrAborted, "not understood"},
		"binary":          {`printf '\000\377' >&4`, Result{}, errdefs.ErrAborted, "not understood"},
		"over the limit":  {"echo ok 1 3000000 >&4", Result{}, errdefs.ErrAborted, "not understood"},
		"stderr flood":    {"i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo ok 1 1 >&4", Result{Bytes: 1, Entries: 1}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := fake(t, c.script).Unpack(context.Background(), request(t))
			if c.kind == nil {
				if err != nil || got != c.want {
					t.Fatalf("%v, %v", got, err)
				}
				return
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || len(err.Error()) > 4096 {
				t.Fatalf("%v", err)
			}
		})
	}
}

// What the worker starts with: its own namespaces, an empty environment, no descriptor but the five and the job's.
func TestWorkerStart(t *testing.T) {
	out := t.TempDir()
	script := fmt.Sprintf(`cat <&5 > %[1]s/job
for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done > %[1]s/ns
echo $$ > %[1]s/pid
export -p > %[1]s/env
echo ok 1 1 >&4`, out)
	script = strings.ReplaceAll(script, "cat", "/bin/cat")
	script = strings.ReplaceAll(script, "readlink", "/bin/readlink")
	r := request(t)
	r.Parents = []string{"/a", "/b"}
	if _, err := fake(t, script).Unpack(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	job, err := ReadJob(strings.NewReader(read("job")))
	if err != nil || job.Target != r.Target || len(job.Parents) != 2 || job.DiffID != digest || job.Limits != (Limits{}).WithDefaults() {
		t.Errorf("job %+v, %v", job, err)
	}
	if pid := read("pid"); pid != "1" {
		t.Errorf("pid %s", pid)
	}
	for i, name := range []string{"mnt", "net", "ipc", "uts", "cgroup"} {
		own, _ := os.Readlink("/proc/self/ns/" + name)
		if strings.Contains(read("ns"), own) {
			t.Errorf("%d: namespace %s is the daemon's", i, name)
		}
	}
	for line := range strings.SplitSeq(read("env"), "\n") {
		if !strings.Contains(line, "PWD") && line != "" {
			t.Errorf("environment has %s", line)
		}
	}
}

func TestWorkerMissing(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), plain, dir, ""} {
		_, err := Worker{Path: path}.Unpack(context.Background(), request(t))
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestCancel(t *testing.T) {
	out := t.TempDir()
	script := fmt.Sprintf("trap '' TERM INT HUP; /bin/sleep 1000 & echo > %s/here; while :; do wait; done", out)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the caller gave up")
	done := make(chan error, 1)
	r := request(t)
	go func() {
		_, err := fake(t, script).Unpack(ctx, r)
		done <- err
	}()
	for {
		if _, err := os.Stat(out + "/here"); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	before := len(children(t))
	cancel(why)
	if err := <-done; err != why {
		t.Errorf("cancelled: %v", err)
	}
	if after := len(children(t)); after != before-1 {
		t.Errorf("%d children before, %d after", before, after)
	}
	if _, err := fake(t, "echo ok 1 1 >&4").Unpack(ctx, r); err != why {
		t.Errorf("cancelled before: %v", err)
	}
}

// A worker that is killed from outside, at any time.
func TestKilled(t *testing.T) {
	r := request(t)
	done := make(chan error, 1)
	before := children(t)
	go func() {
		_, err := fake(t, "while :; do :; done").Unpack(context.Background(), r)
		done <- err
	}()
	for {
		if now := children(t); len(now) > len(before) {
			for pid := range now {
				if !before[pid] {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := <-done; !errors.Is(err, errdefs.ErrAborted) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v", err)
	}
}

// children are the processes that this one is the parent of.
func children(t *testing.T) map[int]bool {
	t.Helper()
	pids := map[int]bool{}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		list, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(list)) {
			pid, _ := strconv.Atoi(f)
			pids[pid] = true
		}
	}
	return pids
}

func TestRequests(t *testing.T) {
	long := make([]string, maxParents+1)
	for i := range long {
		long[i] = "/x"
	}
	for name, change := range map[string]func(*Request){
		"no blob":         func(r *Request) { r.Blob = nil },
		"no compression":  func(r *Request) { r.Compression = "" },
		"xz":              func(r *Request) { r.Compression = "xz" },
		"no diff id":      func(r *Request) { r.DiffID = "" },
		"sha512":          func(r *Request) { r.DiffID = "sha512:" + digest[7:] },
		"upper case":      func(r *Request) { r.DiffID = "sha256:" + strings.ToUpper(digest[7:]) },
		"short":           func(r *Request) { r.DiffID = digest[:60] },
		"relative target": func(r *Request) { r.Target = "x" },
		"no target":       func(r *Request) { r.Target = "" },
		"NUL":             func(r *Request) { r.Target = "/x\x00" },
		"relative parent": func(r *Request) { r.Parents = []string{"x"} },
		"501 parents":     func(r *Request) { r.Parents = long },
		"negative bytes":  func(r *Request) { r.Limits.Bytes = -1 },
		"deep":            func(r *Request) { r.Limits.Depth = 1001 },
	} {
		r := request(t)
		change(&r)
		if _, err := (Worker{Path: "/none"}).Unpack(context.Background(), r); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	w := fake(t, "echo ok 1 1 >&4")
	r := request(t)
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			if _, err := w.Unpack(context.Background(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}
