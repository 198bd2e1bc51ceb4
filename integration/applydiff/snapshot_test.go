package applydiff

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// snapshot describes every file below root but root itself, one line each, by path.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	groups := map[uint64][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel := path[len(root)+1:]
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("mode=%o owner=%d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += fmt.Sprintf(" size=%d sum=%s", st.Size, sum(path))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" rdev=%d", st.Rdev)
		}
		if !d.IsDir() {
			line += fmt.Sprintf(" mtime=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
			groups[st.Ino] = append(groups[st.Ino], rel)
		}
		lines[rel] = line + xattrs(path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range groups {
		sort.Strings(names)
		for _, n := range names {
			lines[n] += " links=" + strings.Join(names, ",")
		}
	}
	return lines
}

func sum(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func xattrs(path string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return " xattrs: " + err.Error()
	}
	keys := strings.Split(strings.Trim(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(keys)
	out := ""
	for _, k := range keys {
		if k == "" || strings.HasPrefix(k, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, k, value)
		if err != nil {
			return " xattrs: " + err.Error()
		}
		out += fmt.Sprintf(" %s=%x", k, value[:n])
	}
	return out
}

// diff lists what differs, as many lines as a person reads.
func diff(ours, theirs map[string]string) string {
	var out []string
	for path, line := range ours {
		switch other, ok := theirs[path]; {
		case !ok:
			out = append(out, fmt.Sprintf("%q: only ours: %s", path, line))
		case other != line:
			out = append(out, fmt.Sprintf("%q\n    ours:   %s\n    theirs: %s", path, line, other))
		}
	}
	for path, line := range theirs {
		if _, ok := ours[path]; !ok {
			out = append(out, fmt.Sprintf("%q: only theirs: %s", path, line))
		}
	}
	sort.Strings(out)
	return strings.Join(out[:min(len(out), 20)], "\n")
}
