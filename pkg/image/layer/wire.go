package layer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Descriptors that the worker inherits.
const (
	BlobFD   = 3 // the compressed layer, for reading
	ResultFD = 4 // write end of a pipe: one Outcome
	JobFD    = 5 // read end of a pipe: one Job
)

// version of Job and Outcome. The daemon and the worker are installed together; another version is refused.
const version = 1

// Job is what the daemon tells the worker, as JSON on JobFD.
type Job struct {
	Version     int
	Compression string
	DiffID      string
	Target      string
	Parents     []string // lowest first
	Limits      Limits   // without zeroes
}

// maxJob holds 500 paths of the kernel's longest.
const maxJob = 4 << 20

// ReadJob reads a Job to the end of r.
func ReadJob(r io.Reader) (Job, error) {
	var j Job
	data, err := io.ReadAll(io.LimitReader(r, maxJob))
	if err != nil {
		return j, fmt.Errorf("job: %w", err)
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return j, fmt.Errorf("job: %w", err)
	}
	if j.Version != version {
		return j, fmt.Errorf("job of version %d: this worker knows %d; install daemon and worker of one release", j.Version, version)
	}
	return j, nil
}

// kinds are the error kinds that cross the pipe, by name.
var kinds = map[string]error{
	"invalid":     errdefs.ErrInvalidArgument,
	"exhausted":   errdefs.ErrResourceExhausted,
	"unavailable": errdefs.ErrUnavailable,
}

// maxOutcome bounds an outcome in bytes, and maxText its error text.
const (
	maxOutcome = 4096
	maxText    = 1024
)

// WriteOutcome writes what came of a job, as one line.
func WriteOutcome(w io.Writer, r Result, err error) error {
	if err == nil {
		_, werr := fmt.Fprintf(w, "ok %d %d\n", r.Bytes, r.Entries)
		return werr
	}
	name := "unavailable"
	for n, kind := range kinds {
		if errors.Is(err, kind) {
			name = n
		}
	}
	text := err.Error()
	if len(text) > maxText {
		text = text[:maxText-len("…")] + "…"
	}
	_, werr := fmt.Fprintf(w, "error %s %s\n", name, printable(text))
	return werr
}

// errSilent: the worker closed the pipe without an outcome.
var errSilent = errors.New("it left without an answer")

// ParseOutcome reads an outcome as the word of a worker that may lie: anything but one well-formed line within the limits
// is an error of kind errdefs.ErrAborted. The outcome's own error has the kind that it names.
func ParseOutcome(data []byte, limits Limits) (Result, error) {
	line, ok := strings.CutSuffix(string(data), "\n")
	if len(data) == 0 {
		return Result{}, spec.Errorf(errdefs.ErrAborted, "unpack worker: %w", errSilent)
	}
	bad := spec.Errorf(errdefs.ErrAborted, "unpack worker: its answer is not understood (%d bytes)", len(data))
	if !ok || len(data) > maxOutcome || strings.Contains(line, "\n") || !utf8.ValidString(line) {
		return Result{}, bad
	}
	verb, rest, _ := strings.Cut(line, " ")
	first, second, ok := strings.Cut(rest, " ")
	if !ok {
		return Result{}, bad
	}
	switch verb {
	case "ok":
		bytes, err1 := count(first, limits.Bytes)
		entries, err2 := count(second, limits.Entries)
		if err1 != nil || err2 != nil {
			return Result{}, bad
		}
		return Result{Bytes: bytes, Entries: entries}, nil
	case "error":
		kind := kinds[first]
		if kind == nil || second == "" || len(second) > 2*maxText {
			return Result{}, bad
		}
		return Result{}, spec.Errorf(kind, "%s", printable(second))
	}
	return Result{}, bad
}

func count(s string, limit int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > limit || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("not a number within the limit")
	}
	return n, nil
}

// printable keeps a text on one line, whoever wrote it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
