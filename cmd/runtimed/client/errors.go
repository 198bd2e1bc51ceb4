package client

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exit codes of the command line, as docker and podman have them.
const (
	CodeOwn       = 125 // runtimed's own error: nothing was run
	CodeCannotRun = 126 // the program is there and cannot be executed
	CodeNotFound  = 127 // the program is not there
)

// Exit is an error with the exit code of the process. Err may be nil: then there is nothing to say.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// ExitCode is that of the process.
func (e *Exit) ExitCode() int { return e.Code }

// Silent tells whether there is nothing to print: the code is the container's, and it has spoken for itself.
func (e *Exit) Silent() bool { return e.Err == nil }

// ExitCode is the process's exit code for any error: its own, else CodeOwn.
func ExitCode(err error) int {
	var e interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return CodeOwn
}

// notStarted is what the daemon says of a container whose program could not be run.
const notStarted = "could not be started"

// StartCode is the exit code for an error of StartContainer: CodeNotFound or CodeCannotRun where it is about the
// program itself, else CodeOwn. The texts are those of os/exec and of the kernel (execve(2)).
func StartCode(err error) int {
	text := status.Convert(err).Message()
	i := strings.Index(text, notStarted)
	if i < 0 {
		return CodeOwn
	}
	text = text[i:]
	if !strings.Contains(text, "exec: ") && !strings.Contains(text, "exec ") {
		return CodeOwn
	}
	for _, c := range []struct {
		part string
		code int
	}{
		{"executable file not found", CodeNotFound}, {"no such file or directory", CodeNotFound},
		{"permission denied", CodeCannotRun}, {"exec format error", CodeCannotRun}, {"is a directory", CodeCannotRun},
		{"operation not permitted", CodeCannotRun}, {"text file busy", CodeCannotRun}, {"too many levels of symbolic links", CodeCannotRun},
	} {
		if strings.Contains(text, c.part) {
			return c.code
		}
	}
	return CodeOwn
}

// Explain words an error of a call for a person: what was asked, what is wrong, and what to do where that is known.
func (c *Client) Explain(asked string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", asked, err)
	}
	text := s.Message()
	switch s.Code() {
	case codes.Unavailable:
		if why := c.unreachable(text); why != "" {
			text = why
		}
	case codes.Unimplemented:
		if strings.Contains(text, "unknown service runtimed.") {
			text = fmt.Sprintf("what serves at %s is not runtimed: name its socket with --socket", c.Socket)
		}
	case codes.Canceled:
		text = "interrupted"
	case codes.DeadlineExceeded:
		text = "the daemon gave no answer in time"
	}
	return &worded{text: asked + ": " + text, err: err}
}

// unreachable words an error of the connection itself; "" where the daemon has answered.
func (c *Client) unreachable(text string) string {
	switch {
	case strings.Contains(text, "no such file or directory"), strings.Contains(text, "connection refused"):
		return fmt.Sprintf("no daemon answers at %s: start it (runtimed serve, or systemctl start runtimed), or name its socket with --socket", c.Socket)
	case strings.Contains(text, "permission denied"):
		return fmt.Sprintf("the socket %s may not be opened by this user: run this as root", c.Socket)
	case strings.Contains(text, "error reading"), strings.Contains(text, "EOF"), strings.Contains(text, "transport is closing"),
		strings.Contains(text, "connection reset"):
		return fmt.Sprintf("the daemon at %s broke the connection off: it was stopped, or this user is not among socket.allowed_uids", c.Socket)
	}
	return ""
}

// Gone tells whether the daemon has gone away or is leaving, so that a question may be asked again.
func Gone(err error) bool { return status.Code(err) == codes.Unavailable }

// worded keeps the cause of an error that was worded anew.
type worded struct {
	text string
	err  error
}

func (w *worded) Error() string { return w.text }
func (w *worded) Unwrap() error { return w.err }
