package cgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The library opens two to four times as many files as a list of statistics needs, and each costs some ten microseconds of
// the kernel's. This reads what lists need, for every container of a node, every ten seconds; a test holds it against
// what the library reads of the same group.

// files reads the small files of one group into one buffer.
type files struct {
	buf []byte
	err error // the first
}

// text is what the file holds, until the next call. A file that is not there is nil, and no error.
func (f *files) text(dir, name string) []byte {
	if f.err != nil {
		return nil
	}
	path := filepath.Join(dir, name)
	var fd int
	var err error
	for {
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != unix.EINTR {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.err = &fs.PathError{Op: "open", Path: path, Err: err}
		return nil
	}
	defer unix.Close(fd)
	if f.buf == nil {
		f.buf = make([]byte, 16<<10) // memory.stat has some 2 KiB
	}
	n := 0
	for n < len(f.buf) {
		m, err := unix.Read(fd, f.buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // stalls that are switched off
			f.err = &fs.PathError{Op: "read", Path: path, Err: err}
			return nil
		}
		if m <= 0 {
			break
		}
		n += m
	}
	return f.buf[:n]
}

// number is a file that holds one; "max" is Unlimited. It is not ok where there is no file.
func (f *files) number(dir, name string) (n uint64, ok bool) {
	text := bytes.TrimSpace(f.text(dir, name))
	if len(text) == 0 {
		return 0, false
	}
	if string(text) == "max" {
		return spec.Unlimited, true
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		f.err = err
	}
	return n, err == nil
}

// stalls is a pressure file.
func (f *files) stalls(dir, name string) *spec.Stalls {
	text := f.text(dir, name)
	if len(text) == 0 {
		return nil
	}
	s, err := parseStalls(string(text))
	if err != nil {
		f.err = err
	}
	return s
}

// values finds the numbers of a flat-keyed file ("key value" lines) that are wanted.
func values(text []byte, want map[string]*uint64) error {
	for line := range bytes.Lines(text) {
		key, rest, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			continue
		}
		into := want[string(key)]
		if into == nil {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
		if err != nil {
			return err
		}
		*into = n
	}
	return nil
}

// quickUnified is useUnified without detail.
func (m *Manager) quickUnified(path string, u *spec.GroupUse) error {
	dir := filepath.Join(m.node.Unified, path)
	f := &files{}
	var total, user, system uint64
	text := f.text(dir, "cpu.stat")
	if text == nil && f.err == nil {
		return fs.ErrNotExist
	}
	if err := values(text, map[string]*uint64{"usage_usec": &total, "user_usec": &user, "system_usec": &system}); err != nil {
		return err
	}
	u.CPU = spec.CPUUse{Total: usec(total), User: usec(user), System: usec(system)}
	if usage, ok := f.number(dir, "memory.current"); ok {
		v := &spec.MemoryUse{Usage: usage}
		v.Limit, _ = f.number(dir, "memory.max")
		v.Limit = limit(v.Limit)
		err := values(f.text(dir, "memory.stat"), map[string]*uint64{
			"anon": &v.RSS, "file": &v.Cache, "file_mapped": &v.Mapped, "active_file": &v.ActiveFile, "inactive_file": &v.InactiveFile,
			"pgfault": &v.PageFaults, "pgmajfault": &v.MajorFaults,
		})
		if err != nil {
			return err
		}
		u.Memory = v
		if swap, ok := f.number(dir, "memory.swap.current"); ok {
			u.Swap = &spec.SwapUse{Usage: swap}
			u.Swap.Limit, _ = f.number(dir, "memory.swap.max")
			u.Swap.Limit = limit(u.Swap.Limit)
		}
	}
	m.quickStalls(f, path, u)
	return f.err
}

// quickLegacy is useLegacy without detail.
func (m *Manager) quickLegacy(path string, u *spec.GroupUse) error {
	f := &files{}
	dir, _ := m.node.dir("cpuacct")
	total, ok := f.number(filepath.Join(dir, path), "cpuacct.usage")
	if !ok && f.err == nil {
		return fs.ErrNotExist
	}
	u.CPU.Total = time.Duration(total)
	if dir, has := m.node.dir("memory"); has {
		dir = filepath.Join(dir, path)
		v := &spec.MemoryUse{}
		if v.Usage, ok = f.number(dir, "memory.usage_in_bytes"); !ok && f.err == nil {
			return fs.ErrNotExist
		}
		v.Limit, _ = f.number(dir, "memory.limit_in_bytes")
		err := values(f.text(dir, "memory.stat"), map[string]*uint64{
			"total_rss": &v.RSS, "total_cache": &v.Cache, "total_mapped_file": &v.Mapped, "total_active_file": &v.ActiveFile,
			"total_inactive_file": &v.InactiveFile, "total_pgfault": &v.PageFaults, "total_pgmajfault": &v.MajorFaults,
		})
		if err != nil {
			return err
		}
		if both, ok := f.number(dir, "memory.memsw.usage_in_bytes"); ok {
			most, _ := f.number(dir, "memory.memsw.limit_in_bytes")
			u.Swap = swapOf(v.Usage, v.Limit, both, most)
		}
		v.Limit = limit(v.Limit)
		u.Memory = v
	}
	if m.node.Unified != "" {
		m.quickStalls(f, path, u)
	}
	return f.err
}

func (m *Manager) quickStalls(f *files, path string, u *spec.GroupUse) {
	dir := filepath.Join(m.node.Unified, path)
	u.CPUStall, u.MemoryStall, u.IOStall = f.stalls(dir, "cpu.pressure"), f.stalls(dir, "memory.pressure"), f.stalls(dir, "io.pressure")
}
