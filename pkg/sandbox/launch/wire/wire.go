package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Binary is the file name of the program with both stages.
const Binary = "runtimed-shim"

// Verbs are the program's first argument; the second is the container's record directory. VerbInit is libcontainer's
// own re-execution.
const (
	VerbCreate = "create"
	VerbExec   = "exec"
	VerbInit   = "init"
)

// VerbCopy is the program's first argument inside a container, where it copies; the others are ExecRequest.Args.
const VerbCopy = "copy"

// Descriptors that a creator inherits, beside /dev/null as its first two and a pipe for complaints as its third.
const (
	HostMounts = 3 // the host's mount namespace
	Status     = 4 // write end: one Report
	Go         = 5 // read end: one byte, once the launcher has recorded the process; nothing when it has not
)

// Descriptors that an exec stage inherits.
const (
	Request  = 3 // read end: one ExecRequest, then end of file
	Outcome  = 4 // write end: one ExecOutcome
	Lifeline = 5 // read end: end of file when the launcher has gone or given up
	Stdout   = 6 // write ends: the command's own; with a terminal only a refusal's reason is written, to Stderr
	Stderr   = 7
	Stdin    = 8 // read end: the command's own, where the request says so
	Console  = 8 // a socket to which the terminal's master end is sent, where the request asks for a terminal
)

// MaxReport and MaxExec bound what is read from the other side, in bytes. A gRPC request is 16 MiB at most, and JSON
// writes a byte of it as six at most.
const (
	MaxReport = 4096
	MaxExec   = 6*16<<20 + 4096
)

const (
	readyLine   = "ready\n"
	errorPrefix = "error: "
)

// FormatError is a creator's report that the container could not be started: one line.
func FormatError(text string) []byte {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if most := MaxReport - len(errorPrefix) - 1; len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return []byte(errorPrefix + text + "\n")
}

// ErrNoReport: the other side ended without a whole report.
var ErrNoReport = errors.New("the shim ended without a report")

// ParseReport reads all that arrived on a status pipe until its end. ready is true where the program was let go;
// failure is the reason, for a person, where it was not.
func ParseReport(b []byte) (ready bool, failure string, err error) {
	line, _, whole := bytes.Cut(b, []byte("\n"))
	switch {
	case bytes.Equal(b, []byte(readyLine)):
		return true, "", nil
	case whole && bytes.HasPrefix(line, []byte(errorPrefix)) && len(line) > len(errorPrefix):
		return false, strings.ToValidUTF8(string(line[len(errorPrefix):]), "\ufffd"), nil
	default:
		return false, "", ErrNoReport
	}
}

// ExecVersion is the version of ExecRequest. Version 1 knew neither Stdin nor TTY, and had no descriptor for them: a
// daemon that is older than the stage on disk still writes it. Version 2 knew no Copy.
const ExecVersion = 3

// ExecRequest is one command to run in a container, with the container's own user, environment and confinement.
type ExecRequest struct {
	Version int
	Args    []string
	Timeout time.Duration // 0 is none
	// Group is the name of the session's own cgroup below the container's: no slash.
	Group string
	// Stdin: the descriptor Stdin is the command's. TTY: it gets a terminal instead of all three streams, of Width and
	// Height cells (0: as the kernel makes it), whose master end is sent over Console.
	Stdin  bool   `json:",omitempty"`
	TTY    bool   `json:",omitempty"`
	Width  uint16 `json:",omitempty"`
	Height uint16 `json:",omitempty"`
	// Copy runs this program's own VerbCopy, as root inside; Args are its arguments.
	Copy bool `json:",omitempty"`
}

// ExecOutcome is how it ended. Exactly one of the three is meant: Failure, TimedOut, or ExitCode.
type ExecOutcome struct {
	ExitCode int32 // 0…255; 128+n for signal n; 126 not executable, 127 not found
	TimedOut bool
	// Failure says, for a person, why nothing was run.
	Failure string
}

// ReadRequest reads and checks an ExecRequest.
func ReadRequest(r io.Reader) (ExecRequest, error) {
	var req ExecRequest
	if err := read(r, &req); err != nil {
		return req, fmt.Errorf("exec request: %w", err)
	}
	switch {
	case req.Version < 1 || req.Version > ExecVersion:
		return req, fmt.Errorf("exec request of version %d: this program knows 1 to %d", req.Version, ExecVersion)
	case req.Version < 2 && (req.Stdin || req.TTY):
		return req, fmt.Errorf("exec request of version %d with an input", req.Version)
	case req.Version < 3 && req.Copy:
		return req, fmt.Errorf("exec request of version %d for a copy", req.Version)
	case req.Copy && req.TTY:
		return req, errors.New("exec request for a copy with a terminal")
	case req.Stdin && req.TTY:
		return req, errors.New("exec request with both a pipe and a terminal")
	case len(req.Args) == 0 || req.Args[0] == "":
		return req, errors.New("exec request without a command")
	case req.Timeout < 0:
		return req, fmt.Errorf("exec request with timeout %v", req.Timeout)
	case req.Group == "" || req.Group[0] == '.' || strings.ContainsAny(req.Group, "/\x00\n"):
		return req, fmt.Errorf("exec request with group %q", req.Group)
	}
	for _, a := range req.Args {
		if strings.IndexByte(a, 0) >= 0 {
			return req, fmt.Errorf("argument %q holds a NUL byte", a)
		}
	}
	return req, nil
}

// ReadOutcome reads and checks an ExecOutcome.
func ReadOutcome(r io.Reader) (ExecOutcome, error) {
	var out ExecOutcome
	if err := read(r, &out); err != nil {
		return ExecOutcome{}, err
	}
	if out.ExitCode < 0 || out.ExitCode > 255 {
		return ExecOutcome{}, fmt.Errorf("exec outcome with exit code %d", out.ExitCode)
	}
	return out, nil
}

// Write writes one message.
func Write(w io.Writer, message any) error {
	return json.NewEncoder(w).Encode(message)
}

func read(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxExec+1))
	switch {
	case err != nil:
		return err
	case len(b) > MaxExec:
		return fmt.Errorf("longer than %d bytes", MaxExec)
	case len(b) == 0:
		return ErrNoReport
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one message")
	}
	return nil
}
