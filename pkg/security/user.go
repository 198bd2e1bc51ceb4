package security

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/passwd"
)

// maxSupplemental is NGROUPS_MAX (getgroups(2)).
const maxSupplemental = 65536

var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]{0,255}\$?$`)

// identity is who the program starts as, and on whose word: what an image chose never excuses a container from anything.
type identity struct {
	user spec.User
	// uidAsked and gidAsked: the number itself is the request's. The id behind a name is the image's choice, whoever
	// said the name.
	uidAsked, gidAsked bool
	// imageGroups are those of the user's groups that only the image's /etc/group gives.
	imageGroups []uint32
}

// resolveUser: the request's word comes before the image's, and user 0 is neither's. Groups are the primary group,
// which must be among them (CVE-2022-2995), the request's supplemental ones and, unless the policy is Strict, those
// that the image's /etc/group lists the user in.
func resolveUser(s spec.ContainerSecurity, image string, f passwd.File) (identity, error) {
	who, group, err := spelling(s, image)
	if err != nil {
		return identity{}, err
	}
	u, name, err := lookupUser(who, f)
	if err != nil {
		return identity{}, err
	}
	switch {
	case s.RunAsGroup != nil:
		u.GID, err = requestID("security.run_as_group", *s.RunAsGroup)
	case group != "":
		u.GID, err = lookupGroup(group, f)
	}
	if err != nil {
		return identity{}, err
	}
	id := identity{user: u, uidAsked: s.RunAsUser != nil, gidAsked: s.RunAsGroup != nil}
	return id, id.addGroups(s, name, f)
}

// spelling is how the user and, where the image says it, the group are written.
func spelling(s spec.ContainerSecurity, image string) (user, group string, err error) {
	switch {
	case s.RunAsUser != nil && s.RunAsUsername != "":
		return "", "", spec.Invalidf("security.run_as_user and security.run_as_username are both set: one is possible")
	case s.RunAsUser != nil:
		id, err := requestID("security.run_as_user", *s.RunAsUser)
		return strconv.FormatUint(uint64(id), 10), "", err
	case s.RunAsUsername != "":
		return s.RunAsUsername, "", nil
	case s.RunAsGroup != nil:
		return "", "", spec.Invalidf("security.run_as_group is set without run_as_user or run_as_username")
	case image == "":
		return "0", "", nil
	}
	user, group, colon := strings.Cut(image, ":")
	if user == "" || colon && group == "" {
		return "", "", spec.Invalidf("the image's user %.64q: write a user, or a user and a group on both sides of the colon", image)
	}
	return user, group, nil
}

func requestID(field string, id int64) (uint32, error) {
	if id < 0 || id > math.MaxInt32 {
		return 0, spec.Invalidf("%s: %d is not an id: 0 to %d are", field, id, math.MaxInt32)
	}
	return uint32(id), nil
}

// number reads what looks like a number, and only that. No name begins with a digit or a sign here, even if the image's
// passwd has such a one, so that no spelling of a number is taken for another identity (CVE-2016-3697, CVE-2024-40635).
func number(s string) (id uint32, numeric bool, err error) {
	if id, ok := passwd.ID(s); ok {
		return id, true, nil
	}
	first := []rune(s)[0]
	if unicode.IsNumber(first) || first == '+' || first == '-' || first == '.' {
		return 0, true, spec.Invalidf("%.64q is not a user or group id: decimal digits, 0 to %d", s, math.MaxInt32)
	}
	return 0, false, nil
}

func lookupUser(who string, f passwd.File) (spec.User, string, error) {
	id, numeric, err := number(who)
	if err != nil {
		return spec.User{}, "", err
	}
	if numeric {
		e, ok := f.ByID(id)
		if !ok {
			return spec.User{UID: id, Home: "/"}, "", nil
		}
		return spec.User{UID: id, GID: e.GID, Home: home(e.Home)}, e.Name, nil
	}
	if !userName.MatchString(who) {
		return spec.User{}, "", spec.Invalidf("%.64q is not the name of a user", who)
	}
	e, ok := f.ByName(who)
	if !ok {
		return spec.User{}, "", spec.Invalidf("the image's /etc/passwd has no user %q: name one that it has, or a numeric id", who)
	}
	return spec.User{UID: e.UID, GID: e.GID, Home: home(e.Home)}, e.Name, nil
}

func lookupGroup(name string, f passwd.File) (uint32, error) {
	id, numeric, err := number(name)
	if numeric || err != nil {
		return id, err
	}
	if !userName.MatchString(name) {
		return 0, spec.Invalidf("%.64q is not the name of a group", name)
	}
	id, ok := f.GroupByName(name)
	if !ok {
		return 0, spec.Invalidf("the image's /etc/group has no group %q: name one that it has, or a numeric id", name)
	}
	return id, nil
}

// home is what the image says, where it can be a directory.
func home(dir string) string {
	if !path.IsAbs(dir) || len(dir) > 4095 || strings.ContainsFunc(dir, unicode.IsControl) {
		return "/"
	}
	return path.Clean(dir)
}

func (id *identity) addGroups(s spec.ContainerSecurity, name string, f passwd.File) error {
	if len(s.SupplementalGroups) > maxSupplemental {
		return spec.Invalidf("security.supplemental_groups: %d groups, the kernel takes %d", len(s.SupplementalGroups), maxSupplemental)
	}
	groups := []uint32{id.user.GID}
	for _, g := range s.SupplementalGroups {
		n, err := requestID("security.supplemental_groups", g)
		if err != nil {
			return err
		}
		groups = append(groups, n)
	}
	if name != "" && !s.StrictGroups {
		members, err := f.Memberships(name)
		if err != nil {
			return err
		}
		for _, g := range members {
			if !slices.Contains(groups, g) {
				id.imageGroups = append(id.imageGroups, g)
			}
		}
	}
	groups = append(groups, id.imageGroups...)
	slices.Sort(groups)
	id.user.Groups = slices.Compact(groups)
	return nil
}

// without drops groups.
func without(groups, drop []uint32) []uint32 {
	return slices.DeleteFunc(slices.Clone(groups), func(g uint32) bool { return slices.Contains(drop, g) })
}
