package untar

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	blockSize = 256 << 10
	blocks    = 6
	// maxWindow is the largest window of a zstd frame: the decoder holds about that much.
	maxWindow = 32 << 20
	// freeBytes may come out of any blob, however small: a short run of zeroes compresses without bound.
	freeBytes = 256 << 20
)

// stream is the uncompressed archive. Decompressing and hashing run beside its reader, a few blocks ahead and behind.
type stream struct {
	full  chan block // decompressed, for the reader
	hash  chan block // read, for the hash
	empty chan []byte
	quit  chan struct{}
	done  sync.WaitGroup
	sum   hash.Hash

	now  block // what is being read
	left []byte
	err  error
}

type block struct {
	data []byte
	err  error
}

// newStream starts reading. Close must be called.
func newStream(blob io.Reader, compression string, limits layer.Limits) (*stream, error) {
	counted := &counter{r: blob}
	plain, err := decompress(counted, compression)
	if err != nil {
		return nil, err
	}
	s := &stream{
		full: make(chan block, blocks), hash: make(chan block, blocks), empty: make(chan []byte, blocks),
		quit: make(chan struct{}), sum: sha256.New(),
	}
	for range blocks {
		s.empty <- make([]byte, blockSize)
	}
	g := &guard{r: plain, compressed: counted, limits: limits}
	s.done.Add(2)
	go s.fill(g, plain)
	go s.digest()
	return s, nil
}

// decompress returns a reader that refuses whatever follows the last member or frame.
func decompress(r io.Reader, compression string) (io.ReadCloser, error) {
	switch compression {
	case layer.Gzip:
		return &lazyGzip{src: r}, nil
	case layer.Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<63-1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case layer.None:
		return io.NopCloser(r), nil
	}
	return nil, badf("compression %q is not known", compression)
}

// lazyGzip reads the first header in the filling goroutine, where its error belongs.
type lazyGzip struct {
	src io.Reader
	z   *gzip.Reader
}

func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.z == nil {
		z, err := gzip.NewReader(l.src)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		l.z = z
	}
	return l.z.Read(p)
}

func (l *lazyGzip) Close() error { return nil }

func (s *stream) fill(from io.Reader, plain io.Closer) {
	defer s.done.Done()
	defer plain.Close()
	defer close(s.full)
	for {
		var buf []byte
		select {
		case buf = <-s.empty:
		case <-s.quit:
			return
		}
		n, err := io.ReadFull(from, buf[:blockSize])
		if err == io.ErrUnexpectedEOF { // of ReadFull alone: the guard's errors are others
			err = io.EOF
		}
		select {
		case s.full <- block{buf[:n], err}:
		case <-s.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *stream) digest() {
	defer s.done.Done()
	for b := range s.hash {
		s.sum.Write(b.data)
		s.empty <- b.data[:cap(b.data)]
	}
}

// Read implements io.Reader. An error other than io.EOF has a kind.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.now.data != nil {
			s.hash <- s.now
		}
		b, ok := <-s.full
		if !ok {
			s.err = io.ErrClosedPipe
			return 0, s.err
		}
		s.now, s.left, s.err = b, b.data, b.err
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// Drain reads to the end. The rest of an archive is padding: zeroes.
func (s *stream) Drain() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if !isZero(buf[:n]) {
			return badf("there is data behind the end of the archive: it may be two archives in one")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Digest returns the digest of all that was read, after Drain. The stream cannot be read any more.
func (s *stream) Digest() string {
	if s.now.data != nil {
		s.hash <- s.now
		s.now = block{}
	}
	s.stop()
	return "sha256:" + hex.EncodeToString(s.sum.Sum(nil))
}

// Close ends the goroutines. It may be called more than once.
func (s *stream) Close() { s.stop() }

func (s *stream) stop() {
	select {
	case <-s.quit:
		return
	default:
	}
	close(s.quit)
	close(s.hash)
	s.done.Wait()
}

// counter counts the compressed bytes. Only the filling goroutine reads it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// guard holds the limits and gives errors their kinds.
type guard struct {
	r          io.Reader
	compressed *counter
	limits     layer.Limits
	n          int64
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.n += int64(n)
	if g.n > g.limits.Bytes {
		return n, tooMuchf("the archive has more than %d bytes, the limit of one layer", g.limits.Bytes)
	}
	if g.n > freeBytes && g.n/int64(g.limits.Ratio) > g.compressed.n {
		return n, tooMuchf("the archive is more than %d times as large as the blob, the limit of one layer: it looks like a bomb",
			g.limits.Ratio)
	}
	return n, g.classify(err)
}

func (g *guard) classify(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.As(err, &errno):
		return spec.Errorf(errdefs.ErrUnavailable, "layer: read the blob: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badf("the blob ends too early")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, zstd.ErrMagicMismatch):
		return badf("the blob, or what follows in it, is not compressed as its media type says: %w", err)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return tooMuchf("the blob needs a window of more than %d MiB: %w", maxWindow>>20, err)
	}
	return badf("the blob cannot be decompressed: %w", err)
}

func isZero(p []byte) bool {
	for len(p) >= len(zeroes) {
		if string(p[:len(zeroes)]) != string(zeroes[:]) {
			return false
		}
		p = p[len(zeroes):]
	}
	return string(p) == string(zeroes[:len(p)])
}

var zeroes [4096]byte
