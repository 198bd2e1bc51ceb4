package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"

	"github.com/runtimed/runtimed/pkg/image/layer"
)

func zstandard(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(data)
	z.Close()
	return b.Bytes()
}

// window is a zstd frame whose header asks for a window, with one raw block.
func window(exponent byte, data []byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, (exponent - 10) << 3}
	b = append(b, 0, 0, 0)
	size := uint32(len(data))<<3 | 1
	b[6], b[7], b[8] = byte(size), byte(size>>8), byte(size>>16)
	return append(b, data...)
}

func TestBlobs(t *testing.T) {
	good := archive(t, dir("d"), file("d/a", strings.Repeat("content ", 2000)), symlink("l", "d"), file("z", "end"))
	want := "d/ d/a l->d z=end"
	id := digestOf(good)
	zipped, zstded := zip(good), zstandard(t, good)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, "skip"...)
	none, gz, zs := layer.None, layer.Gzip, layer.Zstd
	exhausted := errdefs.ErrResourceExhausted
	cases := []struct {
		name, compression string
		blob              []byte
		id, bad           string
		kind              error
	}{
		{"plain", none, good, id, "", nil}, {"gzip", gz, zipped, id, "", nil}, {"zstd", zs, zstded, id, "", nil},
		{"two gzip members", gz, append(zip(good[:700]), zip(good[700:])...), id, "", nil},
		{"an empty gzip member", gz, append(zip(nil), zipped...), id, "", nil},
		{"two zstd frames", zs, append(zstandard(t, good[:700]), zstandard(t, good[700:])...), id, "", nil},
		{"skippable zstd frames", zs, append(append(bytes.Clone(skippable), zstded...), skippable...), id, "", nil},
		{"zstd window of 32 MiB", zs, window(25, good), id, "", nil},
		{"no end", none, good[:len(good)-1024], digestOf(good[:len(good)-1024]), "", nil},
		{"more padding", none, append(bytes.Clone(good), make([]byte, 100<<10)...), digestOf(append(bytes.Clone(good), make([]byte, 100<<10)...)), "", nil},
		{"other digest", gz, zipped, digestOf(nil), "the archive is " + id, nil},
		{"padding missing", none, good[:len(good)-512], id, "the archive is", nil},
		{"padding added", none, append(bytes.Clone(good), make([]byte, 512)...), id, "the archive is", nil},
		{"empty blob, plain", none, nil, digestOf(nil), "", nil}, {"empty blob, gzip", gz, nil, digestOf(nil), "ends too early", nil},
		{"empty blob, zstd", zs, nil, digestOf(nil), "", nil},
		{"gzip as zstd", zs, zipped, id, "not compressed as", nil}, {"zstd as gzip", gz, zstded, id, "not compressed as", nil},
		{"plain as gzip", gz, good, id, "not compressed as", nil}, {"plain as zstd", zs, good, id, "not compressed as", nil},
		{"gzip as plain", none, zipped, digestOf(zipped), "layer: the archive", nil},
		{"xz as gzip", gz, []byte("\xfd7zXZ\x00\x00" + strings.Repeat("x", 100)), id, "not compressed as", nil},
		{"garbage behind gzip", gz, append(bytes.Clone(zipped), "garbage"...), id, "layer: the blob", nil},
		{"zeroes behind gzip", gz, append(bytes.Clone(zipped), make([]byte, 64)...), id, "layer: the blob", nil},
		{"garbage behind zstd", zs, append(bytes.Clone(zstded), "garbage"...), id, "layer: the blob", nil},
		{"another archive behind", none, append(bytes.Clone(good), good...), digestOf(append(bytes.Clone(good), good...)), "data behind the end", nil},
		{"a byte far behind", none, append(append(bytes.Clone(good), make([]byte, 1<<20)...), 1), id, "data behind the end", nil},
		{"gzip checksum", gz, flip(zipped, len(zipped)-6), id, "cannot be decompressed", nil},
		{"gzip length", gz, flip(zipped, len(zipped)-2), id, "cannot be decompressed", nil},
		{"gzip data", gz, flip(zipped, len(zipped)/2), id, "layer: ", nil},
		{"zstd data", zs, flip(zstded, len(zstded)/2), id, "layer: ", nil}, {"zstd checksum", zs, flip(zstded, len(zstded)-1), id, "cannot be decompressed", nil},
		{"zstd window of 64 MiB", zs, window(26, good), id, "window", exhausted},
		{"zstd window of 2 GiB", zs, window(31, good), id, "window", exhausted},
		{"zstd window of 1 TiB", zs, window(40, good), id, "window", exhausted},
		{"header checksum", none, flip(good, 3), digestOf(flip(good, 3)), "cannot be read", nil},
		{"text", none, []byte(strings.Repeat("hello world\n", 1000)), id, "cannot be read", nil},
		{"zeroes", none, make([]byte, 4096), digestOf(make([]byte, 4096)), "", nil},
		{"size too large", none, raw("a", '0', "77777777777\x00", ""), id, "layer: ", nil},
		{"size of 8 EiB", none, raw("a", '0', "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", ""), id, "its files have more", exhausted},
		{"negative size", none, raw("a", '0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", ""), id, "layer: ", nil},
		{"size with a sign", none, raw("a", '0', "-0000000001\x00", ""), id, "layer: ", nil},
		{"size of a directory", none, append(raw("a/", '5', "00000001000\x00", ""), good...), digestOf(append(raw("a/", '5', "00000001000\x00", ""), good...)), "", nil},
		{"NUL in a PAX path", none, pax("path", "a\x00b"), id, "layer: ", nil}, {"PAX size negative", none, pax("size", "-1"), id, "layer: ", nil},
		{"PAX size huge", none, pax("size", "9223372036854775807"), id, "layer: ", exhausted}, {"PAX owner of letters", none, pax("uid", "root"), id, "layer: ", nil},
		{"PAX record length", none, paxRaw("99 path=a\n"), id, "layer: ", nil}, {"PAX record without end", none, paxRaw("9 path=a"), id, "layer: ", nil},
		{"PAX of 2 MiB", none, pax("comment", strings.Repeat("x", 2<<20)), id, "layer: ", nil},
		{"PAX path of 1 MiB", none, pax("path", strings.Repeat("x/", 400<<10)), id, "longer", nil},
		{"GNU name of 2 MiB", none, gnuLong(2 << 20), id, "layer: ", nil},
		{"GNU sparse map", none, pax("GNU.sparse.map", "0,9223372036854775807,5,5"), id, "layer: ", nil},
		{"GNU sparse size", none, sparsePAX("9000000000000000000"), id, "layer: ", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			got, r, err := s.unpack(c.compression, c.blob, c.id)
			if c.bad == "" {
				if text := tree(t, got); err != nil || text != want && text != "" && c.name != "size of a directory" {
					t.Fatalf("%v, %s", err, text)
				}
				return
			}
			kind := c.kind
			if kind == nil {
				kind = errdefs.ErrInvalidArgument
			}
			if err == nil || !strings.Contains(err.Error(), c.bad) || !errors.Is(err, kind) || r != (layer.Result{}) {
				t.Fatalf("%v, %v; want %q", r, err, c.bad)
			}
		})
	}
	t.Logf("%d blobs", len(cases))
}

func flip(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0x5a
	return data
}

func pax(key, value string) []byte {
	n := len(key) + len(value) + 3
	for n != len(fmt.Sprint(n))+len(key)+len(value)+3 {
		n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
	}
	return paxRaw(fmt.Sprintf("%d %s=%s\n", n, key, value))
}

func paxRaw(records string) []byte {
	b := raw("pax", 'x', fmt.Sprintf("%011o", len(records)), "")
	b = append(b, records...)
	b = append(b, make([]byte, (512-len(records)%512)%512)...)
	b = append(b, raw("file", '0', "00000000000\x00", "")...)
	return append(b, make([]byte, 1024)...)
}

func sparsePAX(size string) []byte {
	var records string
	for _, kv := range [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", size}, {"GNU.sparse.name", "s"}} {
		one := pax(kv[0], kv[1])
		records += strings.TrimRight(string(one[512:1024]), "\x00")
	}
	return paxRaw(records)
}

func gnuLong(n int) []byte {
	b := raw("././@LongLink", 'L', fmt.Sprintf("%011o", n), "")
	b = append(b, bytes.Repeat([]byte("n"), n)...)
	return append(b, raw("file", '0', "00000000000\x00", "")...)
}

// Cut at every byte of the headers and at steps in between: an error each time, or exactly a whole archive.
func TestTruncated(t *testing.T) {
	good := archive(t, dir("d"), file("d/a", strings.Repeat("content ", 100)), entry{tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 40) + "x", Mode: 0o600}, "x"})
	s := newSite(t)
	for compression, blob := range map[string][]byte{layer.None: good, layer.Gzip: zip(good), layer.Zstd: zstandard(t, good)} {
		step := max(1, len(blob)/60)
		for at := 0; at < len(blob); at += step {
			s.layers = nil
			if _, _, err := s.unpack(compression, blob[:at], digestOf(good)); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%s cut at %d of %d: %v", compression, at, len(blob), err)
			}
		}
	}
}

// I08: bombs end at a limit, with the memory of a worker.
func TestBombs(t *testing.T) {
	bomb := func(write func(io.Writer) io.WriteCloser) *os.File {
		f, err := os.CreateTemp(t.TempDir(), "bomb")
		if err != nil {
			t.Fatal(err)
		}
		z := write(f)
		w := tar.NewWriter(z)
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeroes", Size: 2 << 30, Mode: 0o600})
		buf := make([]byte, 1<<20)
		for range 2 << 10 {
			w.Write(buf)
		}
		w.Close()
		z.Close()
		f.Seek(0, io.SeekStart)
		return f
	}
	z := bomb(func(f io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(f, 9); return z })
	s := bomb(func(f io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(f, zstd.WithWindowSize(8<<20)); return z })
	defer z.Close()
	defer s.Close()
	for name, c := range map[string]struct {
		f           *os.File
		compression string
		limits      layer.Limits
		bad         string
	}{
		"gzip ratio":  {z, layer.Gzip, layer.Limits{}, "looks like a bomb"},
		"zstd ratio":  {s, layer.Zstd, layer.Limits{}, "looks like a bomb"},
		"gzip bytes":  {z, layer.Gzip, layer.Limits{Bytes: 1 << 30, Ratio: 1 << 30}, "its files have more than 1073741824 bytes"},
		"zstd bytes":  {s, layer.Zstd, layer.Limits{Bytes: 2 << 30, Ratio: 1 << 30}, "the archive has more than"},
		"small limit": {z, layer.Gzip, layer.Limits{Bytes: 1000}, "more than 1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			c.f.Seek(0, io.SeekStart)
			site := newSite(t)
			site.limits = c.limits
			target, _, err := site.unpackFile(c.compression, c.f, digestOf(nil))
			if !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), c.bad) {
				t.Fatal(err)
			}
			if used := usage(t, target); used > 1<<20 {
				t.Errorf("%d bytes are on disk: zeroes are to be holes", used)
			}
		})
	}
}

// usage is the disk space of a tree in bytes.
func usage(t *testing.T, dir string) int64 {
	t.Helper()
	var total int64
	filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			total += blocks(fi) * 512
		}
		return nil
	})
	return total
}

// Sparse files of any logical size end at the limit of bytes, though the archive is small.
func TestSparseBomb(t *testing.T) {
	s := newSite(t)
	s.limits.Bytes = 1 << 30
	var b bytes.Buffer
	// Old GNU format: one map entry at the far end.
	h := raw("s", 'S', "00000000000\x00", "")
	copy(h[257:265], "ustar  \x00")
	copy(h[386:398], "00000000000\x00")
	copy(h[398:410], "00000000000\x00")
	binary.BigEndian.PutUint64(h[483+4:], 1<<40)
	h[483] = 0x80
	sum := 8 * int(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	b.Write(h)
	b.Write(make([]byte, 1024))
	_, _, err := s.unpack(layer.None, b.Bytes(), digestOf(b.Bytes()))
	if !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Fatal(err)
	}
}
