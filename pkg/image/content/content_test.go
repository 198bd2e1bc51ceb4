package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

var (
	hexes   = strings.Repeat("0123456789abcdef", 4)
	someone = "sha256:" + hexes
)

func TestParseDigest(t *testing.T) {
	if d, err := ParseDigest(someone); err != nil || d.Hex() != hexes {
		t.Errorf("got %q, %v", d, err)
	}
	for _, s := range []string{
		"", "sha256:", hexes, "sha256:" + hexes[1:], someone + "0", "SHA256:" + hexes, "sha256:" + strings.ToUpper(hexes), "sha512:" + hexes + hexes,
		"sha256:../../../" + hexes[9:], "sha256:" + hexes[:63] + "g", "sha256:" + hexes[:63] + "/", someone + "\n", " " + someone, "md5:" + hexes[:32],
		"sha256:" + hexes[:62] + "é", strings.Repeat("x", 1<<20),
	} {
		if _, err := ParseDigest(s); !errdefs.IsInvalidArgument(err) || len(err.Error()) > 400 {
			t.Errorf("ParseDigest(%.80q): %.80v", s, err)
		}
	}
}

func TestChainIDs(t *testing.T) {
	// From the OCI image-spec's definition: the chain of (A, B) is the digest of "A B".
	a, b, c := FromBytes([]byte("a")), FromBytes([]byte("b")), FromBytes([]byte("c"))
	ab := FromBytes([]byte(string(a) + " " + string(b)))
	abc := FromBytes([]byte(string(ab) + " " + string(c)))
	got := ChainIDs([]Digest{a, b, c})
	if got[0] != a || got[1] != ab || got[2] != abc || len(ChainIDs(nil)) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestVerifier(t *testing.T) {
	want := Descriptor{Digest: FromBytes([]byte("hello")), Size: 5}
	for _, c := range []struct {
		name   string
		chunks []string
		ok     bool
	}{
		{"whole", []string{"hello"}, true}, {"in parts", []string{"he", "", "llo"}, true}, {"short", []string{"hell"}, false},
		{"other", []string{"hellO"}, false}, {"long", []string{"hello", "!"}, false}, {"long at once", []string{"hello!"}, false}, {"nothing", nil, false},
	} {
		v := NewVerifier(want)
		var err error
		for _, chunk := range c.chunks {
			if _, err = v.Write([]byte(chunk)); err != nil {
				break
			}
		}
		if err == nil {
			err = v.Verify()
		}
		if (err == nil) != c.ok || err != nil && !errdefs.IsDataLoss(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if v.Written() > want.Size {
			t.Errorf("%s: %d bytes were taken", c.name, v.Written())
		}
	}
}

const goodManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
	`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},` +
	`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":3,"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}]}`

const goodIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",` +
	`"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","platform":{"os":"linux","architecture":"amd64"}}]}`

func TestParse(t *testing.T) {
	d, err := Parse([]byte(goodManifest), OCIManifest+"; charset=utf-8")
	if err != nil || d.Manifest == nil || d.Index != nil || d.Manifest.Layers[0].Compression != Gzip || d.Digest != FromBytes([]byte(goodManifest)) {
		t.Fatalf("got %+v, %v", d, err)
	}
	x, err := Parse([]byte(goodIndex), OCIIndex)
	if err != nil || x.Index == nil || x.Manifest != nil || !x.Index.Lists(Digest(someone)) || x.Index.Lists(d.Digest) {
		t.Fatalf("got %+v, %v", x, err)
	}
	// Annotations are free text, also in a descriptor.
	notes := strings.Replace(goodManifest, `"layers"`, `"annotations":{"Layers":"x","layers":"y","a":"b"},"layers"`, 1)
	if _, err := Parse([]byte(notes), OCIManifest); err != nil {
		t.Errorf("annotations: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	swap := func(doc, old, now string) string { return strings.Replace(doc, old, now, 1) }
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for name, c := range map[string]struct{ doc, contentType string }{
		"nothing":                      {"", OCIManifest},
		"null":                         {"null", OCIManifest},
		"a list":                       {"[]", OCIManifest},
		"two documents":                {goodManifest + "{}", OCIManifest},
		"text after it":                {goodManifest + "x", OCIManifest},
		"cut off":                      {goodManifest[:100], OCIManifest},
		"not UTF-8":                    {swap(goodManifest, "layers", "lay\xffers"), OCIManifest},
		"too large":                    {goodManifest + strings.Repeat(" ", MaxDocument), OCIManifest},
		"too deep":                     {swap(goodManifest, `"size":3`, `"size":3,"x":`+deep), OCIManifest},
		"a member twice":               {swap(goodManifest, `"schemaVersion":2`, `"schemaVersion":2,"schemaVersion":2`), OCIManifest},
		"layers twice":                 {swap(goodManifest, `"layers"`, `"layers":[],"layers"`), OCIManifest},
		"digest twice in a descriptor": {swap(goodManifest, `"size":3`, `"size":3,"digest":"`+someone+`"`), OCIManifest},
		"Layers":                       {swap(goodManifest, `"layers"`, `"Layers"`), OCIManifest},
		"layerſ":                       {swap(goodManifest, `"layers"`, `"layerſ"`), OCIManifest},
		"an index that has layers":     {swap(goodIndex, `"manifests"`, `"layers":[],"manifests"`), OCIIndex},
		"an index that has a config":   {swap(goodIndex, `"manifests"`, `"config":{},"manifests"`), OCIIndex},
		"a null index beside layers":   {swap(goodManifest, `"layers"`, `"manifests":null,"layers"`), OCIManifest},
		"manifest served as index":     {goodManifest, OCIIndex},
		"manifest served as docker's":  {goodManifest, DockerManifest},
		"says and is otherwise":        {swap(goodManifest, "manifest.v1", "index.v1"), OCIIndex},
		"served as JSON":               {goodManifest, "application/json"},
		"served as nothing":            {goodManifest, ""},
		"served as a list of types":    {goodManifest, OCIManifest + ", " + OCIIndex},
		"docker without a type":        {swap(goodManifest, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, ""), DockerManifest},
		"neither":                      {`{"schemaVersion":2}`, OCIManifest},
		"version 3":                    {swap(goodManifest, `:2,`, `:3,`), OCIManifest},
		"version as text":              {swap(goodManifest, `:2,`, `:"2",`), OCIManifest},
		"size as text":                 {swap(goodManifest, `"size":3`, `"size":"3"`), OCIManifest},
		"size with a fraction":         {swap(goodManifest, `"size":3`, `"size":3.5`), OCIManifest},
		"size beyond int64":            {swap(goodManifest, `"size":3`, `"size":99999999999999999999`), OCIManifest},
		"no digest":                    {swap(goodManifest, `"size":3,"digest":"`+someone+`"`, `"size":3`), OCIManifest},
		"index entry with urls":        {swap(goodIndex, `"size":3`, `"size":3,"urls":["http://x"]`), OCIIndex},
		"index entry too large":        {swap(goodIndex, `"size":3`, `"size":99999999`), OCIIndex},
	} {
		if d, err := Parse([]byte(c.doc), c.contentType); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
}

func TestParseOCIWithoutMediaType(t *testing.T) {
	doc := strings.Replace(goodManifest, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "", 1)
	if _, err := Parse([]byte(doc), OCIManifest); err != nil {
		t.Errorf("OCI makes the member optional: %v", err)
	}
}

const goodConfig = `{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05.678Z","config":{"User":"0","Env":["A=b"],"Labels":{"a":"b","A":"c"},"Volumes":{"/b":{},"/a":{}}},` +
	`"rootfs":{"type":"layers","diff_ids":["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]}}`

var amd64 = Platform{"linux", "amd64"}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig([]byte(goodConfig), amd64, 1)
	if err != nil || c.DiffIDs[0] != Digest(someone) || c.CreatedAt == 0 || strings.Join(c.Image.Volumes, " ") != "/a /b" || c.Image.Labels["A"] != "c" {
		t.Fatalf("got %+v, %v", c, err)
	}
	swap := func(old, now string) string { return strings.Replace(goodConfig, old, now, 1) }
	for name, doc := range map[string]string{
		"other architecture": swap("amd64", "arm64"),
		"other system":       swap("linux", "windows"),
		"no system":          swap(`"os":"linux",`, ""),
		"other root":         swap(`"type":"layers"`, `"type":"chunks"`),
		"more layers":        swap(`"diff_ids":[`, `"diff_ids":["`+someone+`",`),
		"no layers":          swap(`"`+someone+`"`, ""),
		"other digest":       swap(someone, "sha512:"+hexes+hexes),
		"twice":              swap(`"os":"linux"`, `"os":"linux","os":"linux"`),
		"long user":          swap(`"User":"0"`, `"User":"`+strings.Repeat("0", 70000)+`"`),
		"long label":         swap(`"a":"b"`, `"a":"`+strings.Repeat("b", 70000)+`"`),
		"many volumes":       swap(`"/b":{}`, `"/b":{}`+manyVolumes()),
		"too large":          goodConfig + strings.Repeat(" ", MaxDocument),
		"user is a number":   swap(`"User":"0"`, `"User":0`),
		"not JSON":           "x",
		"created is no time": swap("2024-01-02T03:04:05.678Z", "yesterday"),
	} {
		if _, err := ParseConfig([]byte(doc), amd64, 1); !errdefs.IsInvalidArgument(err) || len(err.Error()) > 500 {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	for _, created := range []string{"0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "1950-01-01T00:00:00Z"} {
		if c, err := ParseConfig([]byte(swap("2024-01-02T03:04:05.678Z", created)), amd64, 1); err != nil || c.CreatedAt != 0 {
			t.Errorf("created %s: %d, %v", created, c.CreatedAt, err)
		}
	}
}

func manyVolumes() string {
	var b strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&b, `,"/v%d":{}`, i)
	}
	return b.String()
}

func TestBlobs(t *testing.T) {
	b := Blobs{t.TempDir()}
	data := []byte("hello")
	d := FromBytes(data)
	if _, err := b.Get(d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	if err := b.Put(d, []byte("other")); !errdefs.IsDataLoss(err) {
		t.Errorf("other bytes: %v", err)
	}
	for range 2 {
		if err := b.Put(d, data); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Get(d); err != nil || !bytes.Equal(got, data) || b.Use(d) < 5 {
		t.Errorf("got %q, %v", got, err)
	}
	if entries, _ := os.ReadDir(b.Dir); len(entries) != 1 {
		t.Errorf("%d files", len(entries))
	}
	if err := os.WriteFile(b.path(d), []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(d); !errdefs.IsDataLoss(err) {
		t.Errorf("changed: %v", err)
	}
	for range 2 {
		if err := b.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	if b.Use(d) != 0 {
		t.Error("a removed blob has a size")
	}
}

func TestReadFileRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(path("long"), make([]byte, 11), 0o600), os.Symlink(path("long"), path("link")),
		unix.Mkfifo(path("fifo"), 0o600), os.Mkdir(path("dir"), 0o700), os.WriteFile(path("fits"), make([]byte, 10), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"long", "link", "fifo", "dir", "absent"} {
		if _, err := ReadFile(path(name), 10); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if b, err := ReadFile(path("fits"), 10); err != nil || len(b) != 10 {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

func TestWriteFileLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "taken", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "taken"), []byte("x"), true); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	if err := WriteFile("/dev/full/x", nil, false); err == nil {
		t.Error("written into a device")
	}
	if err := DiskError(fmt.Errorf("write: %w", unix.ENOSPC)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a full disk is %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goodManifest), OCIManifest)
	f.Add([]byte(goodIndex), OCIIndex)
	f.Add([]byte(goodManifest), "text/html")
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"manifests":[]}`), OCIManifest)
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`), DockerManifest)
	f.Fuzz(func(t *testing.T, b []byte, contentType string) {
		d, err := Parse(b, contentType)
		if err != nil {
			return
		}
		if (d.Manifest == nil) == (d.Index == nil) || d.Digest != FromBytes(b) {
			t.Fatalf("%q is %+v", b, d)
		}
		if d.Manifest != nil {
			if n := len(d.Manifest.Layers); n == 0 || n > MaxLayers {
				t.Fatalf("%d layers", n)
			}
			for _, l := range d.Manifest.Layers {
				if _, err := ParseDigest(string(l.Digest)); err != nil || l.Size < 0 {
					t.Fatalf("layer %+v", l)
				}
			}
			return
		}
		if s, err := d.Index.Select(amd64); err == nil && !d.Index.Lists(s.Digest) {
			t.Fatalf("%q selects %s", b, s.Digest)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b, amd64, 1)
		if err != nil {
			return
		}
		if len(c.DiffIDs) != 1 || c.Image.OS != "linux" {
			t.Fatalf("%q is %+v", b, c)
		}
		if _, err := json.Marshal(c.Image); err != nil {
			t.Fatal(err)
		}
		ChainIDs(c.DiffIDs)
	})
}
