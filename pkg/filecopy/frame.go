package filecopy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

const magic = "runtimed-copy 1\n"

const (
	kindFile = 'f'
	kindLink = 'l'
	kindDir  = 'd'
	kindUp   = 'u'
	kindEnd  = 'e'
)

// Limits of a stream, in bytes and in levels.
const (
	maxName   = 255  // NAME_MAX
	maxTarget = 4095 // PATH_MAX without its NUL
	maxPiece  = 64 << 10
	maxDepth  = 256 // each level holds a descriptor
)

// header is what comes before an entry. Of kindUp and kindEnd it is the kind alone.
type header struct {
	kind  byte
	mode  fs.FileMode // permission bits alone
	mtime time.Time
	name  string
}

// fixed is the form of a header between its kind and its name.
type fixed struct {
	Mode    uint32
	Seconds int64
	Nanos   uint32
	Name    uint16
}

func badStream(format string, args ...any) error {
	return fmt.Errorf("the other side's stream is broken: "+format, args...)
}

func writeHeader(w io.Writer, h header) error {
	b := []byte{h.kind}
	if h.kind != kindUp && h.kind != kindEnd {
		b, _ = binary.Append(b, binary.BigEndian, fixed{
			uint32(h.mode.Perm()), h.mtime.Unix(), uint32(h.mtime.Nanosecond()), uint16(len(h.name)),
		})
		b = append(b, h.name...)
	}
	_, err := w.Write(b)
	return err
}

// readHeader reads one header. Only the outermost has no name.
func readHeader(r *bufio.Reader, outermost bool) (header, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return header{}, cut(err)
	}
	h := header{kind: kind}
	switch kind {
	case kindUp, kindEnd:
		return h, nil
	case kindFile, kindLink, kindDir:
	default:
		return h, badStream("%q is no kind of entry", kind)
	}
	var f fixed
	if err := binary.Read(r, binary.BigEndian, &f); err != nil {
		return h, cut(err)
	}
	if f.Mode&^0o777 != 0 {
		return h, badStream("mode %#o", f.Mode)
	}
	if f.Nanos >= 1e9 || f.Name > maxName {
		return h, badStream("a header is out of its limits")
	}
	name := make([]byte, f.Name)
	if _, err := io.ReadFull(r, name); err != nil {
		return h, cut(err)
	}
	h.mode, h.mtime, h.name = fs.FileMode(f.Mode), time.Unix(f.Seconds, int64(f.Nanos)), string(name)
	if outermost && h.name != "" || !outermost && !component(h.name) {
		return h, badStream("%q is no name", h.name)
	}
	return h, nil
}

// component tells whether a name is one below a directory.
func component(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

func readTarget(r *bufio.Reader) (string, error) {
	var n uint16
	if err := binary.Read(r, binary.BigEndian, &n); err != nil {
		return "", cut(err)
	}
	if n == 0 || n > maxTarget {
		return "", badStream("a link's target of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", cut(err)
	}
	if strings.IndexByte(string(b), 0) >= 0 {
		return "", badStream("a link's target holds a NUL byte")
	}
	return string(b), nil
}

func writeTarget(w io.Writer, target string) error {
	if target == "" || len(target) > maxTarget {
		return fmt.Errorf("a link's target of %d bytes", len(target))
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(target)))
	_, err := w.Write(append(b, target...))
	return err
}

// readData copies pieces until the empty one.
func readData(w io.Writer, r *bufio.Reader) error {
	for {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil {
			return cut(err)
		}
		switch {
		case n == 0:
			return nil
		case n > maxPiece:
			return badStream("a piece of %d bytes", n)
		}
		if _, err := io.CopyN(w, r, int64(n)); err != nil {
			return cut(err)
		}
	}
}

// writeData sends all of r in pieces, and the empty one.
func writeData(w io.Writer, r io.Reader) error {
	buf := make([]byte, maxPiece)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(n))); err != nil {
				return err
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_, err := w.Write(make([]byte, 4))
			return err
		case err != nil:
			return err
		}
	}
}

// ErrCut: the other side ended before its stream did. Why, the other side knows.
var ErrCut = errors.New("the copy was broken off")

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}
