package supervise_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/logs"
	"github.com/runtimed/runtimed/pkg/logs/entry"
	"github.com/runtimed/runtimed/pkg/sandbox/shim"
)

// inOwnMounts runs the test again in a mount namespace of its own, and tells whether this is that run.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	const key = "MONITOR_TEST_MOUNTS"
	if os.Getenv(key) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), key+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// smallDisk mounts a file system of some bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill writes a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{64 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

var markers = regexp.MustCompile(`stderr F runtimed: (\d+) bytes of log lost: no space left on device\n`)

// The container writes to a full disk and is not held up; when there is room again the log says what it lacks, and the
// exit is stated on a disk that is full once more.
func TestDiskFull(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	const total = 20_000_000
	disk, aux := smallDisk(t, "2m"), t.TempDir()
	p := plan{Script: strings.ReplaceAll(`yes 0123456789abcde | head -c 20000000; touch AUX/written; while [ ! -e AUX/go ]; do sleep 0.02; done;
		echo after; while [ ! -e AUX/end ]; do sleep 0.02; done; exit 5`, "AUX", aux)}
	p.Args.Dir, p.Args.Socket = disk, aux+"/s"
	fill(t, disk+"/filler")
	os.Truncate(disk+"/filler", 1<<20)
	b := start(t, p)
	b.socket = p.Args.Socket
	eventually(t, "the container has written everything", func() bool { return exists(aux + "/written") })
	c := shim.Client{Socket: b.socket}
	eventually(t, "everything is read", func() bool {
		n, err := c.Stats(context.Background())
		return err == nil && n.Read == total && n.Lost > total/2
	})
	os.Remove(disk + "/filler")
	os.WriteFile(aux+"/go", nil, 0o600)
	eventually(t, "the last line is in the log", func() bool { return strings.HasSuffix(b.untimed(), "stdout F after\n") })
	fill(t, disk+"/filler")
	os.WriteFile(aux+"/end", nil, 0o600)
	e := b.wait()
	log, marked := b.untimed(), 0
	for _, m := range markers.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		marked += n
	}
	held := 16 * strings.Count(log, "stdout F 0123456789abcde\n")
	if held == 0 || held+marked != total || e.LogLost != uint64(marked) || e.Code != 5 {
		t.Errorf("held %d, marked %d, exit %+v", held, marked, e)
	}
	t.Logf("held %d, marked %d in %d markers", held, marked, len(markers.FindAllString(log, -1)))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A quiet container's loss is marked too, once there is room.
func TestLossIsMarkedWithoutMoreOutput(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	disk, dir := smallDisk(t, "1m"), t.TempDir()
	fill(t, disk+"/filler")
	p := plan{Script: "echo lost; sleep 600"}
	p.Args.LogPath = disk + "/0.log"
	p.Args.Dir = dir
	b := start(t, p)
	eventually(t, "the line is lost", func() bool { return b.ask("1 stats") == "1 ok read 5 lost 5" })
	os.Remove(disk + "/filler")
	eventually(t, "the loss is marked", func() bool {
		return b.untimed() == "stderr F runtimed: 5 bytes of log lost: no space left on device\n"
	})
}

// Without room for its own record, a container is not started.
func TestStartOnAFullDisk(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	p := plan{Script: "echo never"}
	p.Args.Dir = smallDisk(t, "1m")
	fill(t, p.Args.Dir+"/filler")
	b := launch(t, p)
	if got := b.said(); !strings.HasPrefix(got, "error: make room for ") || !strings.Contains(got, "no space left on device") {
		t.Errorf("said %q", got)
	}
	<-b.ended
}

// 1,000 rotations while both streams write as fast as they can: the parts put together are what was written.
func TestReopenAtFullRate(t *testing.T) {
	const write = "while [ ! -e $DIR/stop ]; do seq -f %0100.f 1 100000; done"
	b := start(t, plan{Script: "(" + write + ") & (" + write + " >&2) & wait"})
	c := shim.Client{Socket: b.socket}
	old := filepath.Join(b.dir, "old")
	check := sequences{t: t}
	init, err := b.started()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		eventually(t, "more is read", func() bool {
			n, err := c.Stats(context.Background())
			return err == nil && n.Read > uint64(i)*(64<<10)
		})
		if err := os.Rename(b.log, old); err != nil {
			t.Fatal(err)
		}
		if err := c.ReopenLog(context.Background()); err != nil {
			t.Fatal(err)
		}
		syscall.Kill(-init.Init.PID, syscall.SIGSTOP) // or the test falls behind for ever
		before := size(t, old)
		check.file(old)
		if after := size(t, old); after != before {
			t.Fatalf("the old file grew from %d to %d bytes after it was replaced", before, after)
		}
		os.Remove(old)
		syscall.Kill(-init.Init.PID, syscall.SIGCONT)
	}
	os.WriteFile(b.dir+"/stop", nil, 0o600)
	if e := b.wait(); e.Code != 0 || e.LogLost != 0 {
		t.Errorf("got %+v", e)
	}
	check.file(b.log)
	for name, s := range check.streams() {
		if s.part != "" || s.next != 1 || s.lines == 0 || s.lines%sequenceEnd != 0 {
			t.Errorf("%s ends within: %+v", name, *s)
		}
		t.Logf("%s: %d lines", name, s.lines)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

const sequenceEnd = 100_000

// sequences checks that each stream counts from 1 to sequenceEnd, again and again.
type sequences struct {
	t        *testing.T
	out, err sequence
}

type sequence struct {
	next, lines int
	part        string
}

func (s *sequences) streams() map[string]*sequence {
	return map[string]*sequence{entry.Stdout: &s.out, entry.Stderr: &s.err}
}

func (s *sequences) file(path string) {
	s.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	streams := s.streams()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		e, err := logs.Parse(sc.Bytes())
		if err != nil {
			s.t.Fatalf("%s: %v", path, err)
		}
		q := streams[e.Stream]
		q.part += string(e.Content)
		if e.Partial {
			continue
		}
		n, err := strconv.Atoi(q.part)
		if want := max(q.next, 1); err != nil || n != want {
			s.t.Fatalf("%s: %s has %q, want %d", path, e.Stream, q.part, want)
		}
		q.part, q.next, q.lines = "", n%sequenceEnd+1, q.lines+1
	}
}
