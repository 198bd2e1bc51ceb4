package passwd

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// maxFile bounds each file, in bytes (CVE-2026-47262: a group file of hundreds of megabytes).
	maxFile = 4 << 20
	// maxGroups is NGROUPS_MAX (getgroups(2)).
	maxGroups = 65536
)

// User is a whole line of passwd.
type User struct {
	Name     string
	UID, GID uint32
	Home     string
}

// Group is a whole line of group.
type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// File is what both files say, in their order.
type File struct {
	Users  []User
	Groups []Group
}

// Read reads both; nil is a file that is not there. FailedPrecondition when one is too long or cannot be read.
func Read(passwd, group io.Reader) (File, error) {
	var f File
	err := lines("/etc/passwd", passwd, func(field []string) {
		if len(field) != 7 {
			return
		}
		uid, ok1 := ID(field[2])
		gid, ok2 := ID(field[3])
		if field[0] != "" && ok1 && ok2 {
			f.Users = append(f.Users, User{Name: field[0], UID: uid, GID: gid, Home: field[5]})
		}
	})
	if err != nil {
		return File{}, err
	}
	err = lines("/etc/group", group, func(field []string) {
		if len(field) != 4 {
			return
		}
		gid, ok := ID(field[2])
		if field[0] != "" && ok {
			g := Group{Name: field[0], GID: gid}
			if field[3] != "" {
				g.Members = strings.Split(field[3], ",")
			}
			f.Groups = append(f.Groups, g)
		}
	})
	if err != nil {
		return File{}, err
	}
	return f, nil
}

func lines(name string, r io.Reader, line func(field []string)) error {
	if r == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return spec.Preconditionf("the image's %s: %w", name, err)
	}
	if len(b) > maxFile {
		return spec.Preconditionf("the image's %s is longer than %d bytes", name, maxFile)
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxFile+1)
	for s.Scan() {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' || strings.IndexByte(text, 0) >= 0 {
			continue
		}
		line(strings.Split(text, ":"))
	}
	return s.Err()
}

// ID reads an id as the files and users write it: decimal digits alone, 0 to 2³¹−1.
func ID(s string) (uint32, bool) {
	if s == "" || len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > math.MaxInt32 {
		return 0, false
	}
	return uint32(n), true
}

// ByName is the first user of that name.
func (f File) ByName(name string) (User, bool) {
	i := slices.IndexFunc(f.Users, func(u User) bool { return u.Name == name })
	if i < 0 {
		return User{}, false
	}
	return f.Users[i], true
}

// ByID is the first user with that id.
func (f File) ByID(id uint32) (User, bool) {
	i := slices.IndexFunc(f.Users, func(u User) bool { return u.UID == id })
	if i < 0 {
		return User{}, false
	}
	return f.Users[i], true
}

// GroupByName is the id of the first group of that name.
func (f File) GroupByName(name string) (uint32, bool) {
	i := slices.IndexFunc(f.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return 0, false
	}
	return f.Groups[i].GID, true
}

// Memberships are the groups that list the user, ascending, each once, at most as many as a process can have.
func (f File) Memberships(name string) ([]uint32, error) {
	var out []uint32
	for _, g := range f.Groups {
		if slices.Contains(g.Members, name) {
			out = append(out, g.GID)
		}
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > maxGroups {
		return nil, spec.Preconditionf("the image's /etc/group has user %.64q in %d groups, the kernel takes %d", name, len(out), maxGroups)
	}
	return out, nil
}
