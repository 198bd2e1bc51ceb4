package filecopy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var then = time.Unix(1_500_000_000, 123_456_789)

// tree makes files (name → text; "→x" is a link to x, a slash at the end a directory) below a new directory.
func tree(t *testing.T, files ...[2]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f[0])
		var err error
		switch target, link := strings.CutPrefix(f[1], "→"); {
		case strings.HasSuffix(f[0], "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(f[1]), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func send(t *testing.T, path string) (stream []byte, warned []string) {
	t.Helper()
	var b bytes.Buffer
	if err := Send(&b, path, func(s string) { warned = append(warned, s) }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), warned
}

func reads(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s: %q, %v; want %q", path, b, err, want)
	}
}

func TestRoundTrip(t *testing.T) {
	big := strings.Repeat("0123456789", 3*maxPiece/10)
	src := tree(t, [2]string{"d/", ""}, [2]string{"d/sub/", ""}, [2]string{"d/a", "text"}, [2]string{"d/big", big},
		[2]string{"d/sub/empty", ""}, [2]string{"d/out", "→/no/such"}, [2]string{"d/strange\n名\xff", "x"})
	syscall.Mkfifo(filepath.Join(src, "d/fifo"), 0o600)
	os.Chmod(filepath.Join(src, "d/a"), 0o4751)
	os.Chtimes(filepath.Join(src, "d/a"), then, then)
	os.Chmod(filepath.Join(src, "d/sub"), 0o500)
	os.Chtimes(filepath.Join(src, "d"), then, then)
	stream, warned := send(t, filepath.Join(src, "d"))
	if len(warned) != 1 || !strings.Contains(warned[0], "fifo") {
		t.Errorf("warned of %q", warned)
	}
	dest := t.TempDir()
	if err := Receive(bytes.NewReader(stream), dest, "copy"); err != nil {
		t.Fatal(err)
	}
	reads(t, dest+"/copy/a", "text")
	reads(t, dest+"/copy/big", big)
	reads(t, dest+"/copy/sub/empty", "")
	reads(t, dest+"/copy/strange\n名\xff", "x")
	for name, want := range map[string]fs.FileMode{"a": 0o751, "sub": fs.ModeDir | 0o500, "out": fs.ModeSymlink | 0o777, "big": 0o640} {
		if info, err := os.Lstat(dest + "/copy/" + name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info, err, want)
		}
	}
	for _, name := range []string{"", "a"} {
		if info, err := os.Stat(filepath.Join(dest, "copy", name)); err != nil || !info.ModTime().Equal(then) {
			t.Errorf("%q: %v, %v", name, info, err)
		}
	}
	if target, _ := os.Readlink(dest + "/copy/out"); target != "/no/such" {
		t.Errorf("link to %q", target)
	}
}

func TestPlaces(t *testing.T) {
	file := tree(t, [2]string{"f", "new"}) + "/f"
	dir := tree(t, [2]string{"g", "in"})
	link := tree(t, [2]string{"l", "→f"}) + "/l"
	for what, c := range map[string]struct{ source, dest, name, made, fails string }{
		"file to a name":              {source: file, dest: "x", name: "f", made: "x"},
		"file into a directory":       {source: file, dest: "dir", name: "f", made: "dir/f"},
		"file over a file":            {source: file, dest: "old", name: "f", made: "old"},
		"file over a link":            {source: file, dest: "link", name: "f", made: "link"},
		"file over a link below":      {source: file, dest: "", name: "link", made: "link"},
		"file, slash":                 {source: file, dest: "x/", name: "f", fails: "no such file"},
		"file, no parent":             {source: file, dest: "x/y", name: "f", fails: "no such file"},
		"file over a directory below": {source: file, dest: "", name: "dir", fails: "is a directory"},
		"file, slash behind a file":   {source: file, dest: "old/", name: "f", fails: "not a directory"},
		"file where all is wanted":    {source: file, dest: "dir", name: ".", fails: "was asked for"},
		"a bad name":                  {source: file, dest: "dir", name: "../x", fails: "is no name"},
		"directory to a name":         {source: dir, dest: "x", name: "d", made: "x/g"},
		"directory into one":          {source: dir, dest: "dir", name: "d", made: "dir/d/g"},
		"directory over a file":       {source: dir, dest: "old", name: "d", fails: "is a file"},
		"directory over a file below": {source: dir, dest: "", name: "old", fails: "no directory"},
		"directory over a link below": {source: dir, dest: "", name: "todir", fails: "no directory"},
		"contents into one":           {source: dir, dest: "dir", name: ".", made: "dir/g"},
		"contents to a name":          {source: dir, dest: "x", name: ".", made: "x/g"},
		"contents through a link":     {source: dir, dest: "todir", name: ".", made: "dir/g"},
		"link":                        {source: link, dest: "dir", name: "l"},
	} {
		t.Run(what, func(t *testing.T) {
			to := tree(t, [2]string{"dir/", ""}, [2]string{"old", "old and longer"}, [2]string{"victim", "v"},
				[2]string{"link", "→victim"}, [2]string{"todir", "→dir"})
			stream, _ := send(t, c.source)
			err := Receive(bytes.NewReader(stream), to+"/"+c.dest, c.name)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Fatalf("%v; want %q", err, c.fails)
			}
			if c.made != "" {
				reads(t, filepath.Join(to, c.made), map[bool]string{true: "in", false: "new"}[strings.HasSuffix(c.made, "g")])
			}
			reads(t, to+"/victim", "v")
		})
	}
}

// stream builds one by hand.
func stream(build func(w *bytes.Buffer)) []byte {
	b := bytes.NewBufferString(magic)
	build(b)
	return b.Bytes()
}

func put(b *bytes.Buffer, kind byte, name, text string) {
	writeHeader(b, header{kind, 0o777, then, name})
	switch kind {
	case kindFile:
		writeData(b, strings.NewReader(text))
	case kindLink:
		writeTarget(b, text)
	}
}

// TestHostileStream: what a container sends makes nothing outside, and a broken stream is refused.
func TestHostileStream(t *testing.T) {
	for what, c := range map[string]struct {
		build func(*bytes.Buffer)
		says  string
	}{
		"through a link out": {func(b *bytes.Buffer) {
			put(b, kindDir, "", "")
			put(b, kindLink, "x", "../../outside")
			put(b, kindDir, "x", "")
			put(b, kindFile, "evil", "evil")
			b.WriteString("uue")
		}, "no directory"},
		"over a link out": {func(b *bytes.Buffer) {
			put(b, kindDir, "", "")
			put(b, kindLink, "x", "../../outside/victim")
			put(b, kindFile, "x", "evil")
			b.WriteString("ue")
		}, ""},
		"dotdot":           {func(b *bytes.Buffer) { put(b, kindDir, "", ""); put(b, kindFile, "..", "e") }, "no name"},
		"slash":            {func(b *bytes.Buffer) { put(b, kindDir, "", ""); put(b, kindFile, "../outside/evil", "e") }, "no name"},
		"absolute":         {func(b *bytes.Buffer) { put(b, kindDir, "", ""); put(b, kindFile, "/evil", "e") }, "no name"},
		"NUL":              {func(b *bytes.Buffer) { put(b, kindDir, "", ""); put(b, kindFile, "a\x00", "e") }, "no name"},
		"no name":          {func(b *bytes.Buffer) { put(b, kindDir, "", ""); put(b, kindFile, "", "e") }, "no name"},
		"an outermost one": {func(b *bytes.Buffer) { put(b, kindFile, "evil", "e") }, "no name"},
		"up too far":       {func(b *bytes.Buffer) { put(b, kindDir, "", ""); b.WriteString("uu") }, "more than one"},
		"up at once":       {func(b *bytes.Buffer) { b.WriteString("u") }, "wrong place"},
		"end inside":       {func(b *bytes.Buffer) { put(b, kindDir, "", ""); b.WriteString("e") }, "wrong place"},
		"two entries":      {func(b *bytes.Buffer) { put(b, kindFile, "", ""); put(b, kindFile, "", "") }, "more than one"},
		"more":             {func(b *bytes.Buffer) { put(b, kindFile, "", ""); b.WriteString("ex") }, "more than one"},
		"no end":           {func(b *bytes.Buffer) { put(b, kindFile, "", "") }, "broken off"},
		"kind":             {func(b *bytes.Buffer) { b.WriteString("b") }, "no kind"},
		"mode":             {func(b *bytes.Buffer) { b.WriteString("f\x00\x00\x09\xed" + strings.Repeat("\x00", 14)) }, "mode"},
		"piece": {func(b *bytes.Buffer) {
			writeHeader(b, header{kind: kindFile, mtime: then})
			b.WriteString("\xff\xff\xff\xff")
		}, "a piece of"},
		"target": {func(b *bytes.Buffer) { writeHeader(b, header{kind: kindLink, mtime: then}); b.WriteString("\xff\xff") }, "target"},
		"depth": {func(b *bytes.Buffer) {
			put(b, kindDir, "", "")
			for range maxDepth {
				put(b, kindDir, "d", "")
			}
		}, "deeper"},
	} {
		t.Run(what, func(t *testing.T) {
			at := tree(t, [2]string{"outside/", ""}, [2]string{"outside/victim", "v"}, [2]string{"here/", ""})
			err := Receive(bytes.NewReader(stream(c.build)), at+"/here", "copy")
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v; want %q", err, c.says)
			}
			reads(t, at+"/outside/victim", "v")
			if all, _ := os.ReadDir(at + "/outside"); len(all) != 1 {
				t.Errorf("outside: %v", all)
			}
		})
	}
}

func TestEveryCutIsSeen(t *testing.T) {
	whole, _ := send(t, tree(t, [2]string{"a", "text"}, [2]string{"l", "→a"}, [2]string{"d/", ""}))
	for n := range len(whole) {
		if err := Receive(bytes.NewReader(whole[:n]), t.TempDir(), "c"); !errors.Is(err, ErrCut) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
}

func TestMainsCommands(t *testing.T) {
	src := tree(t, [2]string{"f", "text"}) + "/f"
	var out, errs bytes.Buffer
	if code := Main(Get(src), nil, &out, &errs); code != 0 || errs.Len() != 0 {
		t.Fatal(code, errs.String())
	}
	dest := t.TempDir()
	if code := Main(Put(dest, "g"), &out, io.Discard, &errs); code != 0 {
		t.Fatal(code, errs.String())
	}
	reads(t, dest+"/g", "text")
	if code := Main(Get("/no/such"), nil, &out, &errs); code != 1 || !strings.Contains(errs.String(), "no such file") {
		t.Error(code, errs.String())
	}
	if code := Main([]string{"x"}, nil, &out, &errs); code != 2 {
		t.Error(code)
	}
	if err := Send(io.Discard, "/dev/null", nil); err == nil {
		t.Error("a device is sent")
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(stream(func(b *bytes.Buffer) {
		put(b, kindDir, "", "")
		put(b, kindFile, "a", "text")
		put(b, kindLink, "l", "../outside")
		put(b, kindDir, "d", "")
		b.WriteString("uue")
	}))
	f.Add(stream(func(b *bytes.Buffer) { put(b, kindFile, "", "text"); b.WriteString("e") }))
	f.Add([]byte(magic + "f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := t.TempDir()
		if err := os.Mkdir(at+"/here", 0o755); err != nil {
			t.Fatal(err)
		}
		Receive(bytes.NewReader(b), at+"/here", "copy")
		if all, err := os.ReadDir(at); err != nil || len(all) != 1 {
			t.Errorf("beside it: %v, %v", all, err)
		}
		all, err := os.ReadDir(at + "/here")
		if err != nil || len(all) > 1 || len(all) == 1 && all[0].Name() != "copy" {
			t.Errorf("in it: %v, %v", all, err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	var b bytes.Buffer
	put(&b, kindDir, "name", "")
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bufio.NewReader(bytes.NewReader(b)), false)
		if err != nil || h.kind == kindUp || h.kind == kindEnd {
			return
		}
		var again bytes.Buffer
		writeHeader(&again, h)
		if !bytes.HasPrefix(b, again.Bytes()) || filepath.Base(h.name) != h.name {
			t.Errorf("%q reads as %+v", b, h)
		}
	})
}
