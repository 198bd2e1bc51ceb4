package logfile

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/logs/entry"
)

// disk is a kernel with little room.
type disk struct {
	data     []byte
	room     int
	errno    error // instead of ENOSPC
	truncErr error
	most     int // of one write; 0 is no limit
	closed   bool
}

func (d *disk) write(p []byte) (int, error) {
	n := min(len(p), d.room-len(d.data))
	if d.most > 0 {
		n = min(n, d.most)
	}
	if n <= 0 {
		if d.errno != nil {
			return -1, d.errno
		}
		return -1, syscall.ENOSPC
	}
	d.data = append(d.data, p[:n]...)
	return n, nil
}

func (d *disk) size() (int64, error) { return int64(len(d.data)), nil }
func (d *disk) close() error         { d.closed = true; return nil }

func (d *disk) truncate(n int64) error {
	if d.truncErr != nil {
		return d.truncErr
	}
	d.data = d.data[:n]
	return nil
}

const at = 1_700_000_000e9
const stamp = "2023-11-14T22:13:20Z "

// rig is a File on a disk, with an encoder and both streams.
type rig struct {
	d        *disk
	f        *File
	e        *entry.Encoder
	out, err *entry.Stream
}

func newRig(room int) *rig {
	d := &disk{room: room}
	f := &File{path: "/x", k: d}
	return &rig{
		d: d, f: f, e: entry.NewEncoder(f, make([]byte, 0, entry.BufferMin+4096)),
		out: entry.NewStream(entry.Stdout, make([]byte, entry.PartSize)),
		err: entry.NewStream(entry.Stderr, make([]byte, entry.PartSize)),
	}
}

func (r *rig) log() string { return strings.ReplaceAll(string(r.d.data), stamp, "") }

func marker(n int) string {
	return "stderr F runtimed: " + strconv.Itoa(n) + " bytes of log lost: no space left on device\n"
}

func TestFullDisk(t *testing.T) {
	one := len(stamp + "stdout F 0123456789\n")
	r := newRig(2*one + 5)
	line := []byte("0123456789\n")
	for range 4 { // the third is torn, the fourth finds nothing
		r.e.Write(r.out, at, line)
	}
	const two = "stdout F 0123456789\nstdout F 0123456789\n"
	if r.log() != two || r.f.Lost() != 22 || !r.f.Pending() {
		t.Fatalf("log %q, lost %d", r.log(), r.f.Lost())
	}
	r.d.room += len(stamp + marker(22)) // for the marker, but not for the line with it
	r.e.Write(r.out, at, line)
	if r.log() != two || r.f.Lost() != 33 {
		t.Fatalf("log %q, lost %d", r.log(), r.f.Lost())
	}
	r.d.room = 1 << 20
	r.e.Write(r.err, at, line)
	if want := two + marker(33) + "stderr F 0123456789\n"; r.log() != want || r.f.Pending() || r.f.Lost() != 33 {
		t.Errorf("log %q, lost %d", r.log(), r.f.Lost())
	}
}

// Of a batch that fits in part, its whole entries stay.
func TestPartOfABatch(t *testing.T) {
	r := newRig(len(stamp+"stdout F a\n")*2 + 3)
	r.e.Write(r.out, at, []byte("a\nb\nc\nd\n"))
	if r.log() != "stdout F a\nstdout F b\n" || r.f.Lost() != 4 {
		t.Errorf("log %q, lost %d", r.log(), r.f.Lost())
	}
	r.d.room = 1 << 20
	r.f.Mark(at)
	r.f.Mark(at)
	if want := "stdout F a\nstdout F b\n" + marker(4); r.log() != want {
		t.Errorf("log %q", r.log())
	}
}

// A line whose rest is lost is ended, and one that the marker would be taken for.
func TestUnfinishedLines(t *testing.T) {
	r := newRig(1 << 20)
	r.e.Write(r.out, at, []byte("out"))
	r.e.Flush(r.out, at)
	r.e.Write(r.err, at, []byte("err"))
	r.e.Flush(r.err, at)
	r.d.room = len(r.d.data)
	r.e.Write(r.out, at, []byte("lost\n"))
	r.d.room = 1 << 20
	r.e.Write(r.err, at, []byte("more\n"))
	want := "stdout P out\nstderr P err\nstdout F \nstderr F \n" + marker(5) + "stderr F more\n"
	if r.log() != want {
		t.Errorf("log %q, want %q", r.log(), want)
	}
	r.e.Write(r.out, at, []byte("x"))
	r.e.Flush(r.out, at)
	r.d.room = len(r.d.data)
	r.e.Write(r.err, at, []byte("lost\n"))
	r.d.room = 1 << 20
	r.e.Write(r.out, at, []byte("y\n")) // stdout lost nothing: its line goes on
	if want += "stdout P x\n" + marker(5) + "stdout F y\n"; r.log() != want {
		t.Errorf("log %q, want %q", r.log(), want)
	}
}

// Where the file cannot be cut, the torn entry is ended at least.
func TestNoTruncate(t *testing.T) {
	r := newRig(len(stamp) + 14)
	r.d.truncErr = syscall.EPERM
	r.e.Write(r.out, at, []byte("hello\n"))
	r.d.room = 1 << 20
	r.e.Write(r.out, at, []byte("next\n"))
	if want := "stdout F hello"[:14] + "\n" + marker(6) + "stdout F next\n"; r.log() != want {
		t.Errorf("log %q, want %q", r.log(), want)
	}
}

func TestShortWritesAreContinued(t *testing.T) {
	r := newRig(1 << 20)
	r.d.most = 3
	r.e.Write(r.out, at, []byte("one\ntwo\n"))
	if r.log() != "stdout F one\nstdout F two\n" || r.f.Lost() != 0 {
		t.Errorf("log %q", r.log())
	}
}

func TestOtherErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS} {
		r := newRig(0)
		r.d.errno = errno
		r.e.Write(r.out, at, []byte("x\n"))
		r.d.room = 1 << 20
		r.f.Mark(at)
		if want := "stderr F runtimed: 2 bytes of log lost: " + errno.Error() + "\n"; r.log() != want {
			t.Errorf("log %q, want %q", r.log(), want)
		}
	}
}

// Under any sequence of room, full disk and room again, the file holds whole entries, and what it holds and what its
// markers say make what was written.
func TestAccount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		r := newRig(rnd.IntN(2000))
		if rnd.IntN(4) == 0 {
			r.d.most = 1 + rnd.IntN(500)
		}
		written := 0
		for range rnd.IntN(60) {
			s := r.out
			if rnd.IntN(2) == 0 {
				s = r.err
			}
			p := bytes.Repeat([]byte("0123456789abcdef"), 1+rnd.IntN(1<<uint(rnd.IntN(12))))
			for i := range p {
				if i > 0 && p[i-1] != '\n' && rnd.IntN(40) == 0 {
					p[i] = '\n'
				}
			}
			if p[0] == '\n' {
				p[0] = '0'
			}
			written += len(p)
			r.e.Write(s, at, p)
			if rnd.IntN(3) == 0 {
				r.d.room = len(r.d.data) + rnd.IntN(50_000)
			}
		}
		r.e.Flush(r.out, at)
		r.e.Flush(r.err, at)
		r.d.room = 1 << 30
		r.f.Mark(at)
		held, marked := account(t, r.log())
		if r.f.Pending() || marked != int(r.f.Lost()) || held+marked != written {
			t.Fatalf("held %d, marked %d, lost %d, written %d", held, marked, r.f.Lost(), written)
		}
	}
}

// account counts a log's content and what its markers say. An empty F ends a cut line here, or the line of a part that
// a read ended in: the data has no empty lines.
func account(t *testing.T, log string) (held, marked int) {
	t.Helper()
	for _, l := range strings.SplitAfter(log, "\n") {
		if l == "" {
			continue
		}
		content, isOut := strings.CutPrefix(l[2:], "dout ")
		content2, isErr := strings.CutPrefix(l[2:], "derr ")
		if isErr {
			content = content2
		}
		if !isOut && !isErr || !strings.HasSuffix(l, "\n") || content[1] != ' ' {
			t.Fatalf("entry %.80q", l)
		}
		tag, content := content[0], content[2:]
		switch rest, ok := strings.CutPrefix(content, "runtimed: "); {
		case ok:
			n, err := strconv.Atoi(strings.SplitN(rest, " ", 2)[0])
			if err != nil {
				t.Fatal(err)
			}
			marked += n
		case content == "\n":
		case tag == 'P':
			held += len(content) - 1
		default:
			held += len(content)
		}
	}
	return held, marked
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	e := entry.NewEncoder(f, make([]byte, 0, entry.BufferMin))
	s := entry.NewStream(entry.Stdout, make([]byte, entry.PartSize))
	e.Write(s, at, []byte("one\n"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	e.Write(s, at, []byte("two\nthree, "))
	if err := f.Reopen(at); err != nil {
		t.Fatal(err)
	}
	e.Write(s, at, []byte("and its end\n"))
	for name, want := range map[string]string{
		path + ".1": stamp + "stdout F one\n" + stamp + "stdout F two\n",
		path:        stamp + "stdout F three, and its end\n",
	} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
		}
	}
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir + ".gone")
	if err := f.Reopen(at); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("reopen in no directory: %v", err)
	}
	e.Write(s, at, []byte("four\n"))
	if got, _ := os.ReadFile(dir + ".gone/0.log"); !bytes.HasSuffix(got, []byte("F four\n")) {
		t.Errorf("the old file is not in use after a failed reopen: %q", got)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("a failed reopen made a file")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, prepare := range map[string]func(string) error{
		"symbolic link": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"fifo":          func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"device":        func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
		"no/directory":  func(string) error { return nil },
	} {
		path := filepath.Join(dir, name)
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

func TestOpenAppendsAndDiscards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, ""} {
		f, err := Open(p)
		if err != nil {
			t.Fatal(err)
		}
		e := entry.NewEncoder(f, make([]byte, 0, entry.BufferMin))
		e.Write(entry.NewStream(entry.Stdout, make([]byte, entry.PartSize)), at, []byte("x\n"))
		if err := f.Reopen(at); err != nil || f.Lost() != 0 {
			t.Errorf("%q: %v, lost %d", p, err, f.Lost())
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "before\n"+stamp+"stdout F x\n" {
		t.Errorf("log %q", got)
	}
}
