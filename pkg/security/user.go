package security

import (
	"io"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxUserFile bounds the image's passwd and group, in bytes (CVE-2026-47262: a group file of hundreds of megabytes).
const maxUserFile = 1 << 20

var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]{0,255}\$?$`)

// userDB is what the image says of its users.
type userDB struct {
	users  []user.User
	groups []user.Group
}

func readUsers(passwd, group io.Reader) (userDB, error) {
	p, err := bounded(passwd)
	if err != nil {
		return userDB{}, spec.Preconditionf("the image's /etc/passwd: %w", err)
	}
	g, err := bounded(group)
	if err != nil {
		return userDB{}, spec.Preconditionf("the image's /etc/group: %w", err)
	}
	var db userDB
	if db.users, err = user.ParsePasswd(strings.NewReader(p)); err != nil {
		return db, spec.Preconditionf("the image's /etc/passwd: %w", err)
	}
	if db.groups, err = user.ParseGroup(strings.NewReader(g)); err != nil {
		return db, spec.Preconditionf("the image's /etc/group: %w", err)
	}
	return db, nil
}

func bounded(r io.Reader) (string, error) {
	if r == nil {
		return "", nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxUserFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxUserFile {
		return "", spec.Preconditionf("larger than %d bytes", maxUserFile)
	}
	return string(b), nil
}

// parseID reads what looks like a number, and only that: a name never begins with a digit or a sign here, so that no
// spelling of a number is taken for another identity (CVE-2016-3697, CVE-2024-40635).
func parseID(s string) (id uint32, numeric bool, err error) {
	if s == "" || (s[0] < '0' || s[0] > '9') && s[0] != '+' && s[0] != '-' {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > math.MaxInt32 || s[0] == '+' {
		return 0, true, spec.Invalidf("%q is not a user or group id: 0 to %d", s, math.MaxInt32)
	}
	return uint32(n), true, nil
}

// identity is who the container's program starts as. The request's word comes before the image's.
func identity(s spec.ContainerSecurity, image string, db userDB) (spec.User, error) {
	who, group := image, ""
	fromImage := true
	switch {
	case s.RunAsUser != nil:
		who, fromImage = strconv.FormatInt(*s.RunAsUser, 10), false
	case s.RunAsUsername != "":
		who, fromImage = s.RunAsUsername, false
	case s.RunAsGroup != nil:
		return spec.User{}, spec.Invalidf("security.run_as_group is set without run_as_user or run_as_username")
	}
	if fromImage {
		who, group, _ = strings.Cut(image, ":")
		if strings.Contains(image, ":") && (who == "" || group == "") {
			return spec.User{}, spec.Invalidf("the image's user %q: both sides of the colon are needed", image)
		}
	}
	u, entry, err := db.lookupUser(who)
	if err != nil {
		return u, err
	}
	switch {
	case s.RunAsGroup != nil:
		u.GID, err = checkedID("security.run_as_group", *s.RunAsGroup)
	case group != "":
		u.GID, err = db.lookupGroup(group)
	}
	if err != nil {
		return u, err
	}
	u.Groups, err = supplementary(s, u, entry, db)
	return u, err
}

func checkedID(field string, id int64) (uint32, error) {
	if id < 0 || id > math.MaxInt32 {
		return 0, spec.Invalidf("%s: %d is not an id: 0 to %d", field, id, math.MaxInt32)
	}
	return uint32(id), nil
}

func (db userDB) lookupUser(who string) (spec.User, *user.User, error) {
	u := spec.User{Home: "/"}
	match := func(e user.User) bool { return e.Name == who }
	id, numeric, err := parseID(orRoot(who))
	if err != nil {
		return u, nil, err
	}
	if numeric {
		u.UID = id
		match = func(e user.User) bool { return e.Uid == int(id) }
	} else if !userName.MatchString(who) {
		return u, nil, spec.Invalidf("%q is not a user name", who)
	}
	i := slices.IndexFunc(db.users, match)
	if i < 0 {
		if numeric {
			return u, nil, nil
		}
		return u, nil, spec.Invalidf("the image has no user %q", who)
	}
	e := db.users[i]
	for _, id := range []int{e.Uid, e.Gid} {
		if id < 0 || id > math.MaxInt32 {
			return u, nil, spec.Invalidf("the image's user %q has an id out of range", e.Name)
		}
	}
	u.UID, u.GID = uint32(e.Uid), uint32(e.Gid)
	if path.IsAbs(e.Home) && !strings.ContainsFunc(e.Home, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		u.Home = path.Clean(e.Home)
	}
	return u, &e, nil
}

func orRoot(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

func (db userDB) lookupGroup(name string) (uint32, error) {
	id, numeric, err := parseID(name)
	if numeric || err != nil {
		return id, err
	}
	if !userName.MatchString(name) {
		return 0, spec.Invalidf("%q is not a group name", name)
	}
	for _, g := range db.groups {
		if g.Name == name && g.Gid >= 0 && g.Gid <= math.MaxInt32 {
			return uint32(g.Gid), nil
		}
	}
	return 0, spec.Invalidf("the image has no group %q", name)
}

// supplementary are the request's groups and the primary one, which must be there too (CVE-2022-2995), and, unless the
// policy is Strict, those that the image's group file lists the user in.
func supplementary(s spec.ContainerSecurity, u spec.User, entry *user.User, db userDB) ([]uint32, error) {
	groups := []uint32{u.GID}
	for _, g := range s.SupplementalGroups {
		id, err := checkedID("security.supplemental_groups", g)
		if err != nil {
			return nil, err
		}
		groups = append(groups, id)
	}
	if entry != nil && !s.StrictGroups {
		for _, g := range db.groups {
			if slices.Contains(g.List, entry.Name) && g.Gid >= 0 && g.Gid <= math.MaxInt32 {
				groups = append(groups, uint32(g.Gid))
			}
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}
