package applydiff

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	continuity "github.com/containerd/continuity/fs"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// archive is one layer.
type archive struct {
	raw         []byte // tar
	blob        []byte
	compression string
	entries     []string // for a person
	features    map[string]bool
}

func (a archive) diffID() string { return fmt.Sprintf("sha256:%x", sha256.Sum256(a.raw)) }

// generator makes one layer on top of a tree.
type generator struct {
	*rand.Rand
	tree string // what is below
	buf  bytes.Buffer
	w    *tar.Writer
	archive

	dirs     map[string]bool // with an entry in this layer: neither removed nor replaced
	files    []string        // regular files of this layer
	state    map[string]byte // what this layer made of paths, see kind; 'w' is gone
	touched  map[string]bool // directories that an entry is in
	linked   bool            // a name went through a link: paths are not what they look like
	below    []string        // paths of the tree
	regular  []string        // regular files of the tree with one name
	dirsLow  []string
	linksLow []string // links of the tree to directories
}

var names = []string{"a", "b", "c", "dir", "etc", "bin", "lib", "very long name with spaces", "ü", "x.conf", "\xff\xfe", "-"}

func generate(r *rand.Rand, tree string) archive {
	g := &generator{Rand: r, tree: tree, dirs: map[string]bool{}, touched: map[string]bool{}, state: map[string]byte{}}
	g.features = map[string]bool{}
	g.w = tar.NewWriter(&g.buf)
	g.look()
	if g.IntN(2) == 0 {
		g.add(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755})
	}
	for range 4 + g.IntN(24) {
		g.one()
	}
	g.w.Close()
	g.raw = g.buf.Bytes()
	g.compress()
	return g.archive
}

// look reads the tree below.
func (g *generator) look() {
	filepath.WalkDir(g.tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == g.tree {
			return nil
		}
		rel := path[len(g.tree)+1:]
		g.below = append(g.below, rel)
		var st unix.Stat_t
		unix.Lstat(path, &st)
		switch {
		case d.IsDir():
			g.dirsLow = append(g.dirsLow, rel)
		case d.Type().IsRegular() && st.Nlink == 1:
			g.regular = append(g.regular, rel)
		case d.Type()&fs.ModeSymlink != 0:
			at, err := continuity.RootPath(g.tree, rel)
			if fi, serr := os.Lstat(at); err == nil && serr == nil && fi.IsDir() && at != g.tree {
				g.linksLow = append(g.linksLow, rel)
			}
		}
		return nil
	})
}

func pick(r *rand.Rand, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[r.IntN(len(list))]
}

// name makes up a path: new, in a directory of the tree, or one of the tree.
func (g *generator) name() string {
	switch g.IntN(4) {
	case 0:
		if p := pick(g.Rand, g.below); p != "" {
			return p
		}
	case 1:
		if p := pick(g.Rand, g.dirsLow); p != "" {
			return p + "/" + pick(g.Rand, names)
		}
	case 2:
		if p := pick(g.Rand, keys(g.dirs)); p != "" {
			return p + "/" + pick(g.Rand, names)
		}
	}
	parts := []string{}
	for range 1 + g.IntN(4) {
		parts = append(parts, pick(g.Rand, names))
	}
	return strings.Join(parts, "/")
}

func keys(m map[string]bool) []string {
	list := []string{}
	for k := range m {
		list = append(list, k)
	}
	sort.Strings(list)
	return list
}

// free tells whether a path may be removed or replaced: nothing in it has a time to be set later.
func (g *generator) free(path string) bool {
	at, ok := g.canonical(path)
	if !ok {
		return false
	}
	for d := range g.dirs {
		if d == at || strings.HasPrefix(d, at+"/") {
			return false
		}
	}
	return true
}

// canonical is a path without the links of the tree; not ok where links of this layer make it uncertain, or where what
// leads to it is no directory.
func (g *generator) canonical(path string) (string, bool) {
	dir, base := filepath.Split(path)
	for prefix := strings.Trim(dir, "/"); prefix != "" && prefix != "."; prefix = filepath.Dir(prefix) {
		if k := g.state[prefix]; k != 0 && k != 'd' && k != 'D' {
			return "", false
		}
	}
	at, err := continuity.RootPath(g.tree, dir)
	if err != nil {
		return "", false
	}
	at = strings.TrimPrefix(strings.TrimPrefix(at, g.tree)+"/"+base, "/")
	for prefix := filepath.Dir(at); prefix != "."; prefix = filepath.Dir(prefix) {
		if k := g.kind(prefix); k != 0 && k != 'd' && k != 'D' {
			return "", false
		}
	}
	return at, true
}

// kind is what a path without links is by now: 'd' a directory, 'D' one that hides what was below, 'f' a regular file,
// 'o' anything else, 0 nothing.
func (g *generator) kind(path string) byte {
	hidden, at := false, ""
	for part := range strings.SplitSeq(path, "/") {
		at = strings.TrimPrefix(at+"/"+part, "/")
		k, own := g.state[at]
		switch {
		case own:
			hidden = hidden || k == 'D'
		case hidden:
			k = 0
		default:
			k = lkind(g.tree + "/" + at)
		}
		if k == 'w' {
			k = 0
		}
		if at == path || k != 'd' && k != 'D' {
			if at != path {
				return 0
			}
			return k
		}
	}
	return 0
}

func lkind(path string) byte {
	fi, err := os.Lstat(path)
	switch {
	case err != nil:
		return 0
	case fi.IsDir():
		return 'd'
	case fi.Mode().IsRegular():
		return 'f'
	}
	return 'o'
}

// set notes what a path is from now on, and that its parents are directories.
func (g *generator) set(path string, kind byte) {
	at, ok := g.canonical(path)
	if !ok {
		return
	}
	for dir := filepath.Dir(at); dir != "."; dir = filepath.Dir(dir) {
		if k := g.kind(dir); k == 0 {
			g.state[dir] = 'D' // what may have been there is gone
		}
	}
	if kind == 'd' && g.kind(at) == 'd' {
		return
	}
	if kind == 'd' {
		kind = 'D'
	}
	g.state[at] = kind
	for p := range g.state {
		if kind != 'D' && strings.HasPrefix(p, at+"/") {
			delete(g.state, p)
		}
	}
}

func (g *generator) one() {
	switch g.IntN(16) {
	case 0, 1, 2:
		g.directory()
	case 3, 4, 5:
		g.file(g.name())
	case 6:
		g.through()
	case 7:
		g.symlink()
	case 8, 9:
		g.hardlink()
	case 10, 11:
		g.whiteout()
	case 12:
		g.opaque()
	case 13:
		g.node()
	case 14:
		g.sparse()
	case 15:
		g.add(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "global"}})
	}
}

// header fills the attributes.
func (g *generator) header(kind byte, name string) *tar.Header {
	modes := []int64{0o755, 0o644, 0o600, 0o4755, 0o2755, 0o1777, 0, 0o7777}
	times := []time.Time{
		time.Unix(1700000000, 123456789), time.Unix(0, 0), time.Unix(-5, 0), time.Unix(1<<31, 999), time.Unix(1234567890, 0),
	}
	h := &tar.Header{
		Typeflag: kind, Name: name, Mode: modes[g.IntN(len(modes))], Uid: g.IntN(3) * 1000, Gid: g.IntN(3) * 70000,
		ModTime: times[g.IntN(len(times))], Format: tar.FormatPAX,
	}
	if g.IntN(3) == 0 {
		h.AccessTime = time.Unix(1600000000, 1)
	}
	if g.IntN(10) == 0 {
		h.Uid = 1<<32 - 3
	}
	if kind != tar.TypeSymlink && g.IntN(4) == 0 {
		g.xattrs(h)
	}
	if g.IntN(6) == 0 {
		h.Name = pick(g.Rand, []string{"./", "/", "../", "x/../", "./../../"}) + h.Name
	}
	return h
}

func (g *generator) xattrs(h *tar.Header) {
	h.PAXRecords = map[string]string{"SCHILY.xattr.user.test": "value " + h.Name, "SCHILY.xattr.trusted.overlay.opaque": "y"}
	if g.IntN(2) == 0 {
		h.PAXRecords["SCHILY.xattr.user.bin"] = "a=b\nc"
	}
	if h.Typeflag == tar.TypeReg && g.IntN(2) == 0 {
		// struct vfs_cap_data, revision 2: cap_net_bind_service=ep
		h.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	g.features["xattr"] = true
}

func (g *generator) add(h *tar.Header) { g.addData(h, nil) }

func (g *generator) addData(h *tar.Header, data []byte) {
	h.Size = int64(len(data))
	if err := g.w.WriteHeader(h); err != nil {
		return // a name that the writer does not take
	}
	g.w.Write(data)
	g.note(h)
}

func (g *generator) note(h *tar.Header) {
	g.entries = append(g.entries, fmt.Sprintf("%c %q %o %q", h.Typeflag, h.Name, h.Mode, h.Linkname))
	name := filepath.Clean("/" + h.Name)[1:]
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		g.touched[dir] = true
		if !g.dirs[dir] {
			g.features["implied"] = true
		}
	}
}

func (g *generator) directory() {
	name := g.name()
	at, ok := g.canonical(name)
	if !ok {
		return
	}
	g.add(g.header(tar.TypeDir, name+"/"))
	g.dirs[at] = true
	g.set(at, 'd')
}

func (g *generator) file(name string) {
	if !g.free(name) {
		return
	}
	sizes := []int{0, 1, 511, 512, 513, 4096, 70000, 300000}
	data := make([]byte, sizes[g.IntN(len(sizes))])
	if g.IntN(4) > 0 {
		for i := range data {
			data[i] = byte(g.Uint32())
		}
	}
	g.addData(g.header(tar.TypeReg, name), data)
	g.files = append(g.files, name)
	g.set(name, 'f')
}

// through writes through a link of the tree to a directory.
func (g *generator) through() {
	link := pick(g.Rand, g.linksLow)
	if link == "" {
		g.symlink()
		return
	}
	g.linked = true
	g.features["through"] = true
	g.file(link + "/" + pick(g.Rand, names))
}

func (g *generator) symlink() {
	name := g.name()
	if !g.free(name) {
		return
	}
	h := g.header(tar.TypeSymlink, name)
	up := strings.Repeat("../", g.IntN(3))
	h.Linkname = pick(g.Rand, []string{
		"/" + pick(g.Rand, g.dirsLow), up + pick(g.Rand, g.dirsLow), pick(g.Rand, names), "/" + g.name(), "../../../../etc", ".", "nowhere",
	})
	if h.Linkname == "" {
		h.Linkname = "/a"
	}
	g.features["symlink"] = true
	g.add(h)
	g.set(name, 'o')
}

func (g *generator) hardlink() {
	name := g.name()
	target := pick(g.Rand, g.files)
	if low := pick(g.Rand, g.regular); low != "" && g.IntN(2) == 0 {
		target = low
		g.features["lower link"] = true
	}
	to, ok := g.canonical(target)
	at, _ := g.canonical(name)
	if target == "" || !ok || !g.free(name) || g.kind(to) != 'f' || to == at || strings.HasPrefix(to, at+"/") || strings.HasPrefix(target, name+"/") {
		return
	}
	h := g.header(tar.TypeLink, name)
	h.Linkname = target
	g.features["hard link"] = true
	g.add(h)
	g.set(name, 'f')
}

func (g *generator) whiteout() {
	name := g.name()
	if p := pick(g.Rand, g.below); p != "" && g.IntN(3) > 0 {
		name = p
	}
	if g.IntN(4) == 0 && len(g.files) > 0 {
		name = pick(g.Rand, g.files) // of this layer
		g.features["own whiteout"] = true
	}
	if !g.free(name) {
		return
	}
	dir, base := filepath.Split(name)
	g.features["whiteout"] = true
	g.add(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base, Mode: 0o600})
	g.set(name, 'w')
	if g.IntN(12) == 0 {
		g.add(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh..wh.aufs", Mode: 0o600})
	}
}

// opaque comes first in its directory, or after entries whose directories all have entries of their own.
func (g *generator) opaque() {
	dir := pick(g.Rand, g.dirsLow)
	if g.IntN(4) == 0 {
		dir = g.name()
	}
	if g.IntN(25) == 0 {
		dir = ""
	}
	for d := range g.touched {
		if (dir == "" || strings.HasPrefix(d, dir+"/")) && !g.dirs[d] {
			return
		}
	}
	if at, ok := g.canonical(dir + "/x"); g.linked || !ok || at != strings.TrimPrefix(dir+"/x", "/") {
		return
	}
	g.features["opaque"] = true
	if g.touched[dir] {
		g.features["late opaque"] = true
	}
	if k := g.kind(dir); dir != "" && k != 0 && k != 'd' && k != 'D' {
		return
	}
	g.add(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(dir+"/.wh..wh..opq", "/"), Mode: 0o600})
	g.set(dir+"/.", 'd')
	for _, low := range g.below {
		if _, own := g.state[low]; !own && (dir == "" || strings.HasPrefix(low, dir+"/")) {
			g.state[low] = 'w'
		}
	}
}

func (g *generator) node() {
	name := g.name()
	if !g.free(name) {
		return
	}
	kinds := []byte{tar.TypeChar, tar.TypeBlock, tar.TypeFifo}
	h := g.header(kinds[g.IntN(3)], name)
	h.PAXRecords = nil
	if h.Typeflag != tar.TypeFifo {
		h.Devmajor, h.Devminor = 1+int64(g.IntN(300)), int64(g.IntN(70000))
	}
	g.features["device"] = true
	g.add(h)
	g.set(name, 'o')
}

// sparse adds an entry that GNU tar made.
func (g *generator) sparse() {
	name := fmt.Sprintf("sparse%d", g.IntN(len(sparseEntries)))
	if len(sparseEntries) == 0 || !g.free(name) {
		return
	}
	g.w.Flush()
	g.buf.Write(sparseEntries[name])
	g.entries = append(g.entries, "sparse "+name)
	g.files = append(g.files, name)
	g.features["sparse"] = true
	g.set(name, 'f')
}

func (g *generator) compress() {
	var b bytes.Buffer
	switch g.IntN(3) {
	case 0:
		g.compression = "none"
		b.Write(g.raw)
	case 1:
		g.compression = "gzip"
		half := g.IntN(len(g.raw))
		for _, part := range [][]byte{g.raw[:half], g.raw[half:]} { // two members
			z := gzip.NewWriter(&b)
			z.Write(part)
			z.Close()
		}
	case 2:
		g.compression = "zstd"
		z, _ := zstd.NewWriter(&b)
		z.Write(g.raw)
		z.Close()
	}
	g.blob = b.Bytes()
	g.features[g.compression] = true
}
