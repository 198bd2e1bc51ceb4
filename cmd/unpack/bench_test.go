package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/runtimed/runtimed/pkg/image/layer"
)

func zstdWindow(n int) zstd.EOption { return zstd.WithWindowSize(n) }

// benchLayer is about 100 MB in 10,000 files, half text, half noise.
func benchLayer() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 20<<10)
	for i := range 10_000 {
		text := strings.Repeat(fmt.Sprintf("line %d of a file with text in it, %d\n", i, r.Uint32()), 130)
		for j := range noise[:5<<10] {
			noise[j] = byte(r.Uint32())
		}
		data := append([]byte(text), noise[:5<<10]...)
		if i%100 == 0 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/share/d%d/", i/100), Mode: 0o755})
		}
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/share/d%d/f%d", i/100, i), Size: int64(len(data)), Mode: 0o644})
		w.Write(data)
	}
	w.Close()
	return b.Bytes()
}

// BenchmarkUnpack compares the worker, from its start to its end, with tar.
func BenchmarkUnpack(b *testing.B) {
	data := benchLayer()
	var z bytes.Buffer
	gz, _ := gzip.NewWriterLevel(&z, 6)
	gz.Write(data)
	gz.Close()
	for _, c := range []struct {
		name, compression string
		blob              []byte
	}{{"gzip", layer.Gzip, z.Bytes()}, {"zstd", layer.Zstd, zstandard(b, data)}, {"plain", layer.None, data}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			blob := b.TempDir() + "/blob"
			os.WriteFile(blob, c.blob, 0o600)
			for b.Loop() {
				f, err := os.Open(blob)
				if err != nil {
					b.Fatal(err)
				}
				target, _ := os.MkdirTemp(b.TempDir(), "")
				_, err = layer.Worker{Path: workerPath}.Unpack(context.Background(), layer.Request{Blob: f, Compression: c.compression, DiffID: digestOf(data), Target: target})
				f.Close()
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				os.RemoveAll(target)
				b.StartTimer()
			}
		})
	}
	b.Run("tar xzf", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		blob := b.TempDir() + "/blob"
		os.WriteFile(blob, z.Bytes(), 0o600)
		for b.Loop() {
			target, _ := os.MkdirTemp(b.TempDir(), "")
			if out, err := exec.Command("tar", "-C", target, "-xzf", blob).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			b.StopTimer()
			os.RemoveAll(target)
			b.StartTimer()
		}
	})
}
