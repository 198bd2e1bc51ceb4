package passwd

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func read(t *testing.T, passwd, group string) File {
	t.Helper()
	f, err := Read(strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestID(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "00": 0, "0100": 100, "65534": 65534, "2147483647": math.MaxInt32,
		"": -1, "2147483648": -1, "4294967295": -1, "4294967296": -1, "18446744073709551616": -1, "-1": -1, "+1": -1, " 1": -1, "1 ": -1,
		"0x0": -1, "1e1": -1, "1_0": -1, "1.0": -1, "１": -1, "٣": -1, "1\n": -1, "a": -1, strings.Repeat("0", 33): -1, "\x00": -1,
	} {
		got, ok := ID(s)
		if ok != (want >= 0) || ok && int64(got) != want {
			t.Errorf("%q: %d, %v", s, got, ok)
		}
	}
}

func TestUsers(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       string // "name uid gid home", or "" for no entry
	}{
		{"whole", "www:x:33:34:web:/var/www:/bin/sh", "www 33 34 /var/www"},
		{"spaces around", "  www:x:33:34:web:/var/www:/bin/sh \r", "www 33 34 /var/www"},
		{"empty fields", "www::33:34:::", "www 33 34 "},
		{"comment", "#www:x:33:34:web:/var/www:/bin/sh", ""},
		{"no name", ":x:33:34:web:/var/www:/bin/sh", ""},
		{"too few fields", "www:x:33:34", ""},
		{"too many fields", "www:x:33:34:a:b:c:d", ""},
		{"uid is no number", "www:x:root:34:web:/var/www:/bin/sh", ""},
		{"uid is empty", "www:x::34:web:/var/www:/bin/sh", ""},
		{"uid is negative", "www:x:-1:34:web:/:/", ""},
		{"uid wraps", "www:x:4294967296:34:web:/:/", ""},
		{"uid with a sign", "www:x:+0:34:web:/:/", ""},
		{"gid is no number", "www:x:33:zero:web:/:/", ""},
		{"gid too large", "www:x:33:2147483648:web:/:/", ""},
		{"NUL", "www\x00:x:0:0:web:/:/", ""},
		{"NIS", "+::::::", ""},
	} {
		f := read(t, "\n"+c.line+"\nlast:x:5:5::/:/\n", "")
		got := ""
		if len(f.Users) == 2 {
			u := f.Users[0]
			got = fmt.Sprintf("%s %d %d %s", u.Name, u.UID, u.GID, u.Home)
		}
		if got != c.want || f.Users[len(f.Users)-1].Name != "last" {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestGroups(t *testing.T) {
	f := read(t, "", strings.Join([]string{
		"a:x:1:u,v", "b:x:2:", "c:x:3:u", "a:x:9:u", "bad:x:no:u", "short:x:4", "long:x:5:u:w", ":x:6:u", "#d:x:7:u", "e:x:3:u", "neg:x:-8:u",
	}, "\n"))
	if got, err := f.Memberships("u"); err != nil || !slices.Equal(got, []uint32{1, 3, 9}) {
		t.Errorf("u is in %v, %v", got, err)
	}
	if got, _ := f.Memberships("w"); len(got) != 0 {
		t.Errorf("w is in %v", got)
	}
	if id, ok := f.GroupByName("a"); !ok || id != 1 {
		t.Errorf("the first group of a name counts: %d", id)
	}
	if _, ok := f.GroupByName("bad"); ok {
		t.Error("a line that is not whole is no group")
	}
}

func TestFirstEntryCounts(t *testing.T) {
	f := read(t, "a:x:1:1::/one:\na:x:2:2::/two:\nb:x:1:3::/three:\n", "")
	if u, ok := f.ByName("a"); !ok || u.UID != 1 {
		t.Errorf("%+v", u)
	}
	if u, ok := f.ByID(1); !ok || u.Name != "a" {
		t.Errorf("%+v", u)
	}
	if _, ok := f.ByID(7); ok {
		t.Error("7 is nobody")
	}
	if _, ok := f.ByName(""); ok {
		t.Error("the empty name is nobody's")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, strings.Repeat("x", len(b))), nil }

func TestBounds(t *testing.T) {
	for name, r := range map[string]io.Reader{"broken": broken{}, "endless": endless{}} {
		if _, err := Read(r, nil); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s passwd: %v", name, err)
		}
		if _, err := Read(nil, r); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s group: %v", name, err)
		}
	}
	var bomb strings.Builder
	for i := range maxGroups + 1 {
		fmt.Fprintf(&bomb, "g:x:%d:u\n", i)
	}
	if _, err := read(t, "", bomb.String()).Memberships("u"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("more groups than the kernel takes: %v", err)
	}
	// One line as long as a file may be.
	long := "g:x:1:" + strings.Repeat("v,", maxFile/2-10) + "u"
	if got, err := read(t, "", long).Memberships("u"); err != nil || len(got) != 1 {
		t.Errorf("a long line: %v, %v", got, err)
	}
	if f, err := Read(nil, nil); err != nil || f.Users != nil || f.Groups != nil {
		t.Errorf("files that are not there: %+v, %v", f, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\n", "wheel:x:10:root,www\n")
	f.Add("a:x:4294967296:0:::\n\x00:::", "g:x:-1:a\n:::\n#")
	f.Fuzz(func(t *testing.T, passwd, group string) {
		file, err := Read(strings.NewReader(passwd), strings.NewReader(group))
		if err != nil {
			return
		}
		for _, u := range file.Users {
			if u.Name == "" || strings.ContainsAny(u.Name+u.Home, ":\n\x00") || u.UID > math.MaxInt32 || u.GID > math.MaxInt32 {
				t.Errorf("%+v", u)
			}
			file.Memberships(u.Name)
		}
		for _, g := range file.Groups {
			if g.Name == "" || strings.ContainsAny(g.Name, ":\n\x00") || g.GID > math.MaxInt32 {
				t.Errorf("%+v", g)
			}
		}
	})
}
