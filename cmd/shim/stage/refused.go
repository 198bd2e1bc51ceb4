package stage

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Exit codes of a command that could not be run, as a shell gives them (POSIX.1-2024, XCU 2.8.2).
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// refusedError is a command that the container cannot execute.
type refusedError struct {
	code int32
	text string
}

func (e *refusedError) Error() string { return e.text }

// refused tells a command that cannot be executed, which is an outcome with the reason on its stderr, from a failure.
func (s *session) refused(err error) error {
	code, text := classify(err.Error())
	if code == 0 {
		return err
	}
	fmt.Fprintln(s.stderr, text) // where the command's own complaints would be
	return &refusedError{code: code, text: text}
}

// classify reads the text of os/exec.LookPath's error, which is all that comes out of the container.
func classify(text string) (code int32, short string) {
	short = text
	if i := strings.Index(text, `exec: "`); i >= 0 {
		short = text[i:]
	} else {
		return 0, text
	}
	switch {
	case strings.Contains(short, "executable file not found"), strings.Contains(short, unix.ENOENT.Error()),
		strings.Contains(short, unix.ENOTDIR.Error()):
		return codeNotFound, short
	case strings.Contains(short, unix.EACCES.Error()), strings.Contains(short, unix.EISDIR.Error()),
		strings.Contains(short, unix.ELOOP.Error()), strings.Contains(short, unix.ENAMETOOLONG.Error()):
		return codeNotExecutable, short
	}
	return 0, text
}
