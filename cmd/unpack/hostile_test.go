package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// bad is the text that an error must have where the archive is refused.
type hostile struct {
	name   string
	layers [][]entry
	want   string // the tree of the last layer
	bad    string
	kind   error // default errdefs.ErrInvalidArgument
}

func one(entries ...entry) [][]entry { return [][]entry{entries} }

// I01: names that lead out. Either they are inside, or refused.
func TestSpellings(t *testing.T) {
	long := strings.Repeat("d/", 2100)
	for i, c := range []struct{ name, want, bad string }{
		{"../x", "x=h", ""}, {"../../../../../../../../x", "x=h", ""}, {"/x", "x=h", ""}, {"//x", "x=h", ""}, {"a/../../x", "x=h", ""},
		{"a/../../../x", "x=h", ""}, {"./x", "x=h", ""}, {"././x", "x=h", ""}, {"./../x", "x=h", ""}, {"a//x", "a/ a/x=h", ""},
		{"a/./x", "a/ a/x=h", ""}, {"a/b/../x", "a/ a/x=h", ""}, {"/../x", "x=h", ""}, {"/./x", "x=h", ""}, {"..", "", ""}, {".", "", ""},
		{"/", "", ""}, {"//", "", ""}, {"../..", "", ""}, {"/..", "", ""}, {"...", "...=h", ""}, {".. /x", ".. / .. /x=h", ""},
		{"..\\x", "..\\\\x=h", ""}, {"a/..", "", ""}, {"~/x", "~/ ~/x=h", ""}, {"$HOME/x", "$HOME/ $HOME/x=h", ""}, {"-rf", "-rf=h", ""},
		{"a\nb", "a\\nb=h", ""}, {"\x1b[31m", "\\x1b[31m=h", ""}, {"\xff\xfe", "\\xff\\xfe=h", ""}, {"x\xc0\xafy", "x\\xc0\\xafy=h", ""},
		{" ", " =h", ""}, {"x ", "x =h", ""}, {"C:\\x", "C:\\\\x=h", ""}, {"proc/self/root/x", "proc/ proc/self/ proc/self/root/ proc/self/root/x=h", ""},
		{strings.Repeat("n", 255), strings.Repeat("n", 255) + "=h", ""}, {strings.Repeat("n", 256), "", "file name too long"},
		{long + "x", "", "longer"}, {strings.Repeat("d/", 300) + "x", "", "deeper than 256"}, {strings.Repeat("n", 5000), "", "longer"},
		{strings.Repeat("../", 2000) + "x", "x=h", ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := newSite(t)
			got, err := s.tar(archive(t, file(c.name, "h")))
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) || len(err.Error()) > 1024 {
					t.Fatalf("%q: %v", c.name, err)
				}
				return
			}
			if err != nil || tree(t, got) != c.want {
				t.Fatalf("%q: %v, %s", c.name, err, tree(t, got))
			}
		})
	}
}

// I02, I04, I05, I07, I11 and the rest: what entries say.
func TestHostile(t *testing.T) {
	canary := newSite(t).canary // a path that exists outside
	cases := []hostile{
		{name: "through a link, absolute", layers: one(symlink("a", canary), file("a/x", "h")), want: dirs("a->"+canary, canary[1:]) + "=h"},
		{name: "through a link, up", layers: one(symlink("a", "../../../.."), file("a/x", "h")), want: "a->../../../.. x=h"},
		{name: "through a link of the layer below", layers: [][]entry{{symlink("a", "/etc")}, {file("a/passwd", "h")}}, want: "etc/ etc/passwd=h"},
		{name: "through two links", layers: one(symlink("a", "b/c"), symlink("b", "/.."), file("a/x", "h")), want: "a->b/c b->/.. c/ c/x=h"},
		{name: "through a link to itself", layers: one(symlink("a", "a"), file("a/x", "h")), bad: "too many symbolic links"},
		{name: "through links in a circle", layers: one(symlink("a", "b/x"), symlink("b", "a"), file("a/x", "h")), bad: "too many symbolic links"},
		{name: "through a link to a file", layers: one(file("f", ""), symlink("a", "f"), file("a/x", "h")), bad: "no directory"},
		{name: "through a file", layers: one(file("f", ""), file("f/x", "h")), bad: "no directory"},
		{name: "through a file below", layers: [][]entry{{file("f", "")}, {file("f/x", "h")}}, bad: "no directory"},
		{name: "through a device", layers: one(node(tar.TypeChar, "n", 1, 3), file("n/x", "h")), bad: "no directory"},
		{name: "through proc", layers: one(symlink("a", "/proc/self/cwd"), file("a/x", "h")),
			want: "a->/proc/self/cwd proc/ proc/self/ proc/self/cwd/ proc/self/cwd/x=h"},
		{name: "the root is a link", layers: one(symlink(".", canary), file("x", "h")), want: "x=h"},
		{name: "the root is a file", layers: one(file("./", "h"), file("x", "h")), want: "x=h"},
		{name: "the root is a device", layers: one(node(tar.TypeChar, "/", 1, 3)), want: ""},
		{name: "the root is whited out", layers: [][]entry{{file("x", "")}, {file(".wh..", "")}}, bad: "names no file"},
		{name: "a file over a link", layers: one(symlink("a", canary+"/file"), file("a", "h")), want: "a=h"},
		{name: "a file over a link below", layers: [][]entry{{symlink("a", canary+"/file")}, {file("a", "h")}}, want: "a=h"},
		{name: "a directory over a link", layers: one(symlink("a", canary), dir("a"), file("a/x", "h")), want: "a/ a/x=h"},
		{name: "attributes through a link", layers: one(symlink("a", canary), entry{tar.Header{Typeflag: tar.TypeDir, Name: "a", Mode: 0o7777, Uid: 5}, ""}), want: "a/"},
		{name: "link with an empty target", layers: one(symlink("a", "")), bad: "has the target"},
		{name: "hard link outside", layers: one(hardlink("a", canary+"/file")), bad: "there is no"},
		{name: "hard link up", layers: one(hardlink("a", "../../canary/file")), bad: "there is no"},
		{name: "hard link through a link", layers: one(symlink("l", canary), hardlink("a", "l/file")), bad: "there is no"},
		{name: "hard link to a link, then write", layers: one(symlink("l", canary+"/file"), hardlink("a", "l"), file("a", "h")), want: "a=h l->" + canary + "/file"},
		{name: "hard link to a directory", layers: one(dir("d"), hardlink("a", "d")), bad: "there is no file"},
		{name: "hard link to a directory below", layers: [][]entry{{dir("d")}, {hardlink("a", "d")}}, bad: "there is no file"},
		{name: "hard link to the root", layers: one(hardlink("a", "/")), bad: "has the target"},
		{name: "hard link to dots", layers: one(hardlink("a", "b/..")), bad: "has the target"},
		{name: "hard link to nothing", layers: one(hardlink("a", "")), bad: "has the target"},
		{name: "hard link to a later entry", layers: one(hardlink("a", "b"), file("b", "")), bad: "there is no file"},
		{name: "hard link to itself", layers: one(file("a", ""), hardlink("a", "a")), bad: "takes the place of its target"},
		{name: "hard link over its target's directory", layers: [][]entry{{file("d/f", "")}, {hardlink("d", "d/f")}}, bad: "takes the place"},
		{name: "hard link to what is whited out", layers: [][]entry{{file("f", "")}, {whiteout("f"), hardlink("a", "f")}}, bad: "there is no file"},
		{name: "hard link to what an opaque directory hides", layers: [][]entry{{file("d/f", "")}, {file("d/.wh..wh..opq", ""), hardlink("a", "d/f")}}, bad: "there is no file"},
		{name: "hard link into the file, canary as content", layers: one(hardlink("a", "/etc/passwd")), bad: "there is no"},
		{name: "whiteout of nothing", layers: one(file(".wh.", "")), bad: "names no file"},
		{name: "whiteout of itself", layers: one(file("d/.wh..", "")), bad: "names no file"},
		{name: "whiteout of the parent", layers: one(file("d/.wh...", "")), bad: "names no file"},
		{name: "whiteout of what is not there", layers: one(whiteout("a")), want: ""},
		{name: "whiteout through a link", layers: one(symlink("l", canary), whiteout("l/file")), want: dirs("l->"+canary, canary[1:])[:0] + strings.TrimSuffix(dirs("l->"+canary, canary[1:]), " "+canary[1:]+"/x")},
		{name: "whiteout as a directory", layers: [][]entry{{file("a", "")}, {dir(".wh.a")}}, want: "a(0:0)"},
		{name: "opaque as a directory", layers: [][]entry{{file("d/a", "")}, {dir("d/.wh..wh..opq")}}, want: "d/ d/a(0:0)"},
		{name: "entry below a whiteout", layers: one(file(".wh.a/x", "")), bad: "is a whiteout"},
		{name: "bookkeeping of AUFS", layers: one(dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "h"), file(".wh..wh.aufs", "")), want: ""},
		{name: "opaque root", layers: [][]entry{{file("a/b", ""), file("c", "")}, {file(".wh..wh..opq", ""), file("a/x", "h")}}, want: "a/ a/b(0:0) a/x=h c(0:0)"},
		{name: "device 0:0 is a whiteout", layers: [][]entry{{file("a", "")}, {node(tar.TypeChar, "a", 0, 0)}}, want: "a(0:0)"},
		{name: "device 0:0 of its own", layers: one(node(tar.TypeChar, "a", 0, 0)), want: ""},
		{name: "disk", layers: one(node(tar.TypeBlock, "sda", 8, 0)), want: "sda(8:0)"},
		{name: "memory", layers: one(node(tar.TypeChar, "mem", 1, 1)), want: "mem(1:1)"},
		{name: "device out of range", layers: one(node(tar.TypeChar, "a", 4096, 0)), bad: "has the numbers"},
		{name: "device minor out of range", layers: one(node(tar.TypeBlock, "a", 1, 1<<20)), bad: "has the numbers"},
		{name: "write into a device", layers: one(node(tar.TypeChar, "mem", 1, 1), file("mem", "h")), want: "mem=h"},
		{name: "write into a FIFO", layers: one(node(tar.TypeFifo, "p", 0, 0), file("p", "h")), want: "p=h"},
		{name: "hard link to a FIFO", layers: one(node(tar.TypeFifo, "p", 0, 0), hardlink("q", "p")), want: "p| q|"},
		{name: "owner out of range", layers: one(entry{tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1<<32 - 1}, ""}), bad: "out of range"},
		{name: "negative owner", layers: one(entry{tar.Header{Typeflag: tar.TypeReg, Name: "a", Gid: -1, Format: tar.FormatGNU}, ""}), bad: "out of range"},
		{name: "huge owner", layers: one(entry{tar.Header{Typeflag: tar.TypeReg, Name: "a", Gid: 1 << 40}, ""}), bad: "out of range"},
		{name: "unknown type", layers: one(entry{tar.Header{Typeflag: 'Z', Name: "a"}, ""}), bad: "unknown type"},
		{name: "duplicates", layers: one(file("a", "1"), file("a", "2"), dir("a"), file("a/b", "3"), symlink("a", "b"), file("a", "4")), want: "a=4"},
		{name: "trusted attribute", layers: one(xattr("a", "trusted.overlay.opaque", "y"), xattr("b", "trusted.overlay.redirect", "/etc")), want: "a= b="},
		{name: "label", layers: one(xattr("a", "security.selinux", "system_u"), xattr("b", "security.ima", "x")), want: "a= b="},
		{name: "malformed capability", layers: one(xattr("a", "security.capability", "xx")), bad: "invalid argument"},
		{name: "attribute with a long name", layers: one(xattr("a", "user."+strings.Repeat("n", 300), "x")), bad: "too large"},
		{name: "attribute of 100 KiB", layers: one(xattr("a", "user.x", strings.Repeat("v", 100<<10))), bad: "too large"},
		{name: "attribute without a name", layers: one(xattr("a", "user.", "x")), want: "a="},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t) })
	}
	t.Logf("%d hostile archives", len(cases))
}

func xattr(name, key, value string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr." + key: value}}, ""}
}

// dirs is the tree of first and of the directories that lead to path/x.
func dirs(first, path string) string {
	out, at := first, ""
	for _, p := range strings.Split(path, "/") {
		at += p
		out += " " + at + "/"
		at += "/"
	}
	return out + " " + path + "/x"
}

func (c hostile) run(t *testing.T) {
	s := newSite(t)
	var err error
	got := ""
	for i, entries := range c.layers {
		got, err = s.tar(archive(t, entries...))
		if err != nil && i < len(c.layers)-1 {
			t.Fatalf("layer %d: %v", i, err)
		}
	}
	if c.bad == "" {
		if err != nil || tree(t, got) != c.want {
			t.Fatalf("%v\ngot  %s\nwant %s", err, tree(t, got), c.want)
		}
		return
	}
	kind := c.kind
	if kind == nil {
		kind = errdefs.ErrInvalidArgument
	}
	if err == nil || !strings.Contains(err.Error(), c.bad) || !errors.Is(err, kind) {
		t.Fatalf("error %v; want %q", err, c.bad)
	}
}
