package security

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/passwd"
)

const passwdFile = `root:x:0:0:root:/root:/bin/sh
www-data:x:33:34:web:/var/www:/bin/sh
dev:x:1000:1000::/home/../home/dev:/bin/sh
1337:x:0:0:a name that looks like a number:/root:/bin/sh
odd:x:70:70::relative:/bin/sh
ctl:x:71:71::/x` + "\x1b" + `y:/bin/sh
rootish:x:4294967296:0::/root:/bin/sh
big:x:100000:100001::/home/big:/bin/sh
`

const groupFile = `root:x:0:
www:x:34:www-data
extra:x:50000:dev,root
more:x:50001:dev
1337:x:0:
dup:x:50000:dev
huge:x:200000:dev
`

func id64(n int64) *int64 { return &n }

func parsed(t testing.TB) passwd.File {
	t.Helper()
	f, err := passwd.Read(strings.NewReader(passwdFile), strings.NewReader(groupFile))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestImageUser(t *testing.T) {
	f := parsed(t)
	for _, c := range []struct{ image, want string }{
		{"", "0:0 [0 50000] /root"},
		{"root", "0:0 [0 50000] /root"},
		{"0", "0:0 [0 50000] /root"},
		{"00", "0:0 [0 50000] /root"},
		{"33", "33:34 [34] /var/www"},
		{"www-data", "33:34 [34] /var/www"},
		{"1002", "1002:0 [0] /"},
		{"1003:1004", "1003:1004 [1004] /"},
		{"www-data:1004", "33:1004 [34 1004] /var/www"},
		{"www-data:extra", "33:50000 [34 50000] /var/www"},
		{"33:0", "33:0 [0 34] /var/www"},
		{"dev", "1000:1000 [1000 50000 50001 200000] /home/dev"},
		{"odd", "70:70 [70] /"},
		{"ctl", "71:71 [71] /"},
		{"2147483647", "2147483647:0 [0] /"},
		// A number is only ever an id, also where passwd has it as a name.
		{"1337", "1337:0 [0] /"},
		{"33:1337", "33:1337 [34 1337] /var/www"},
		// Spellings that others read as something else.
		{"2147483648", ""}, {"4294967295", ""}, {"4294967296", ""}, {"18446744073709551616", ""}, {"-1", ""}, {"+0", ""}, {"-0", ""}, {"0x0", ""}, {"1e1", ""},
		{"1_000", ""}, {"1.0", ""}, {".5", ""}, {" 0", ""}, {"0 ", ""}, {"０", ""}, {"٣", ""}, {"²", ""}, {"0\n", ""}, {"root\n", ""}, {"root\x00", ""},
		{"33:-1", ""}, {"33:+0", ""}, {"33:4294967296", ""}, {"33:0x0", ""}, {"33:1e1", ""}, {"2147483648:0", ""}, {"33:nogroup", ""},
		{":", ""}, {":0", ""}, {"1000:", ""}, {"root:", ""}, {"a:b:c", ""}, {"33:34:35", ""}, {"nobody-here", ""}, {"rootish", ""},
		{"../root", ""}, {"root,0", ""}, {"root;id", ""}, {"$(id)", ""}, {"röot", ""}, {"root2::0:0::/:/bin/sh", ""}, {strings.Repeat("a", 300), ""},
		{"x\nroot2:0", ""},
	} {
		got := ""
		who, err := resolveUser(spec.ContainerSecurity{}, c.image, f)
		if err == nil {
			got = fmt.Sprintf("%d:%d %v %s", who.user.UID, who.user.GID, who.user.Groups, who.user.Home)
		}
		if got != c.want || c.want == "" && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%.40q: %s, %v", c.image, got, err)
		}
	}
}

func TestRequestUser(t *testing.T) {
	f := parsed(t)
	for _, c := range []struct {
		name  string
		s     spec.ContainerSecurity
		image string
		want  string
	}{
		{"id", spec.ContainerSecurity{RunAsUser: id64(1000)}, "www-data:extra", "1000:1000 [1000 50000 50001 200000]"},
		{"unknown id", spec.ContainerSecurity{RunAsUser: id64(7)}, "33:34", "7:0 [0]"},
		{"root", spec.ContainerSecurity{RunAsUser: id64(0)}, "33", "0:0 [0 50000]"},
		{"name", spec.ContainerSecurity{RunAsUsername: "www-data"}, "0", "33:34 [34]"},
		{"numeric name", spec.ContainerSecurity{RunAsUsername: "1337"}, "", "1337:0 [0]"},
		{"id and group", spec.ContainerSecurity{RunAsUser: id64(1000), RunAsGroup: id64(2000)}, "", "1000:2000 [2000 50000 50001 200000]"},
		{"name and group", spec.ContainerSecurity{RunAsUsername: "dev", RunAsGroup: id64(0)}, "", "1000:0 [0 50000 50001 200000]"},
		{"largest", spec.ContainerSecurity{RunAsUser: id64(math.MaxInt32), RunAsGroup: id64(math.MaxInt32)}, "", "2147483647:2147483647 [2147483647]"},
		{"merge", spec.ContainerSecurity{RunAsUser: id64(1000), SupplementalGroups: []int64{1234, 50000}}, "", "1000:1000 [1000 1234 50000 50001 200000]"},
		{"strict", spec.ContainerSecurity{RunAsUser: id64(1000), SupplementalGroups: []int64{1234}, StrictGroups: true}, "", "1000:1000 [1000 1234]"},
		{"strict, none", spec.ContainerSecurity{RunAsUser: id64(1000), StrictGroups: true}, "", "1000:1000 [1000]"},
		{"strict for the image's", spec.ContainerSecurity{StrictGroups: true}, "dev", "1000:1000 [1000]"},
		{"groups for the image's user", spec.ContainerSecurity{SupplementalGroups: []int64{9, 9}}, "www-data", "33:34 [9 34]"},
		{"group alone", spec.ContainerSecurity{RunAsGroup: id64(5)}, "dev", ""},
		{"both", spec.ContainerSecurity{RunAsUser: id64(1), RunAsUsername: "dev"}, "", ""},
		{"negative", spec.ContainerSecurity{RunAsUser: id64(-1)}, "", ""},
		{"2³¹", spec.ContainerSecurity{RunAsUser: id64(1 << 31)}, "", ""},
		{"2³²", spec.ContainerSecurity{RunAsUser: id64(1 << 32)}, "", ""},
		{"2⁶³−1", spec.ContainerSecurity{RunAsUser: id64(math.MaxInt64)}, "", ""},
		{"−2⁶³", spec.ContainerSecurity{RunAsUser: id64(math.MinInt64)}, "", ""},
		{"negative group", spec.ContainerSecurity{RunAsUser: id64(1), RunAsGroup: id64(-1)}, "", ""},
		{"group 2³²", spec.ContainerSecurity{RunAsUser: id64(1), RunAsGroup: id64(1 << 32)}, "", ""},
		{"negative supplemental", spec.ContainerSecurity{SupplementalGroups: []int64{-1}}, "", ""},
		{"supplemental 2³²", spec.ContainerSecurity{SupplementalGroups: []int64{1 << 32}}, "", ""},
		{"too many groups", spec.ContainerSecurity{SupplementalGroups: make([]int64, maxSupplemental+1)}, "", ""},
		{"unknown name", spec.ContainerSecurity{RunAsUsername: "ghost"}, "", ""},
		{"name with a group", spec.ContainerSecurity{RunAsUsername: "dev:0"}, "", ""},
		{"name with a newline", spec.ContainerSecurity{RunAsUsername: "dev\nroot"}, "", ""},
		{"signed name", spec.ContainerSecurity{RunAsUsername: "-1"}, "", ""},
	} {
		got := ""
		who, err := resolveUser(c.s, c.image, f)
		if err == nil {
			got = fmt.Sprintf("%d:%d %v", who.user.UID, who.user.GID, who.user.Groups)
		}
		if got != c.want || c.want == "" && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
}

func TestWithoutFiles(t *testing.T) {
	for user, want := range map[string]string{"": "0:0", "5": "5:0", "5:6": "5:6", "root": "", "5:wheel": ""} {
		who, err := resolveUser(spec.ContainerSecurity{}, user, passwd.File{})
		got := ""
		if err == nil {
			got = fmt.Sprintf("%d:%d", who.user.UID, who.user.GID)
		}
		if got != want {
			t.Errorf("%q: %s, %v", user, got, err)
		}
	}
}

func FuzzUser(f *testing.F) {
	for _, s := range []string{"root", "0:0", "1e1", "-1:+0", "www-data:www", "a\nb", "²"} {
		f.Add(s, passwdFile, groupFile)
	}
	f.Fuzz(func(t *testing.T, user, pw, gr string) {
		file, err := passwd.Read(strings.NewReader(pw), strings.NewReader(gr))
		if err != nil {
			return
		}
		who, err := resolveUser(spec.ContainerSecurity{}, user, file)
		if err != nil {
			return
		}
		u := who.user
		if u.UID > math.MaxInt32 || u.GID > math.MaxInt32 || !slices.Contains(u.Groups, u.GID) || !path.IsAbs(u.Home) || strings.ContainsFunc(u.Home, unicode.IsControl) {
			t.Errorf("%q: %+v", user, u)
		}
		if user != "" && strings.Trim(user, "0123456789") == "" && fmt.Sprint(u.UID) != strings.TrimLeft(user, "0") && u.UID != 0 {
			t.Errorf("%q became user %d", user, u.UID)
		}
		if who.uidAsked || who.gidAsked {
			t.Error("the image asked for nothing")
		}
	})
}
