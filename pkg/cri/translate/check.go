package translate

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Limits of the door. They are far above what the kubelet sends, and keep a record, a log line and an answer small.
const (
	maxName        = 253                         // metadata: as long as a Kubernetes name, a DNS subdomain
	maxPath        = 4095                        // PATH_MAX without its NUL, limits.h
	maxPart        = 255                         // NAME_MAX
	maxHostname    = 64                          // __NEW_UTS_LEN, uname(2)
	maxReference   = 4096                        // an image's name
	maxArgument    = 128<<10 - 1                 // MAX_ARG_STRLEN without its NUL, execve(2)
	maxArguments   = 2 << 20                     // all of command and args, or all of envs
	maxMap         = 1 << 20                     // all keys and values of labels, or of annotations; Kubernetes allows 256 KiB
	maxItems       = 4096                        // of any list
	maxMappings    = 340                         // lines of a uid_map, user_namespaces(7)
	maxGroups      = 65536                       // NGROUPS_MAX, getgroups(2)
	maxID          = 1<<31 - 1                   // users and groups, as Kubernetes allows them
	maxTimeout     = (1<<63 - 1) / 1_000_000_000 // seconds that a time.Duration can hold
	maxSysctlValue = 4096
	maxShown       = 64 // bytes of foreign text in an error
)

// check remembers the first thing that is wrong; after that its methods change nothing any more.
type check struct{ err error }

// fail records an InvalidArgument about the field.
func (c *check) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = spec.Invalidf("%s %s", field, fmt.Sprintf(format, args...))
	}
}

// Shown quotes foreign text for an error, shortened.
func Shown(s string) string { return shown(s) }

func shown(s string) string {
	if len(s) > maxShown {
		return fmt.Sprintf("%q… (%d bytes)", s[:maxShown], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// text checks that s is at most max bytes of UTF-8 without control characters.
func (c *check) text(field, s string, max int) string {
	switch {
	case len(s) > max:
		c.fail(field, "has %d bytes: at most %d are possible", len(s), max)
	case !utf8.ValidString(s):
		c.fail(field, "%s is not UTF-8", shown(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		c.fail(field, "%s holds a control character", shown(s))
	}
	return s
}

// data checks an argument or a value, where newlines are fine: the kernel ends it at a NUL, a record holds only UTF-8.
func (c *check) data(field, s string, max int) string {
	switch {
	case len(s) > max:
		c.fail(field, "has %d bytes: at most %d are possible", len(s), max)
	case strings.IndexByte(s, 0) >= 0:
		c.fail(field, "holds a NUL byte")
	case !utf8.ValidString(s):
		c.fail(field, "is not UTF-8")
	}
	return s
}

// name checks the name of an object: printable, one path component at most. Names never become paths here, but tools
// of others make them so.
func (c *check) name(field, s string) string {
	c.text(field, s, maxName)
	switch {
	case s == "":
		c.fail(field, "is missing")
	case s == "." || s == ".." || strings.Contains(s, "/"):
		c.fail(field, "%s looks like a path", shown(s))
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		c.fail(field, "%s holds a character that cannot be printed", shown(s))
	}
	return s
}

// id checks an id or a prefix of one. What it names is not known here.
func (c *check) id(field, s string) string {
	if s == "" {
		c.fail(field, "is missing")
	}
	return c.text(field, s, maxName)
}

// path checks the form of a path: bounded, and no component is "..".
func (c *check) path(field, s string) string {
	c.text(field, s, maxPath)
	for part := range strings.SplitSeq(s, "/") {
		switch {
		case part == "..":
			c.fail(field, "%s has a component \"..\"", shown(s))
		case len(part) > maxPart:
			c.fail(field, "%s has a component of more than %d bytes", shown(s), maxPart)
		}
	}
	return s
}

// abs checks that s is an absolute path.
func (c *check) abs(field, s string) string {
	switch {
	case s == "":
		c.fail(field, "is missing")
	case !path.IsAbs(s):
		c.fail(field, "%s is not an absolute path", shown(s))
	}
	return c.path(field, s)
}

// count checks the length of a list, and tells whether it is worth a walk.
func (c *check) count(field string, n, max int) bool {
	if n > max {
		c.fail(field, "has %d entries: at most %d are possible", n, max)
	}
	return c.err == nil
}

// within checks a number.
func (c *check) within(field string, n, low, high int64) int64 {
	if n < low || n > high {
		c.fail(field, "%d is out of range: %d to %d", n, low, high)
	}
	return n
}

// opaque checks the size of labels or annotations; their text is the caller's and is returned to the byte.
func (c *check) opaque(field string, m map[string]string) map[string]string {
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			c.fail(field, "of %s is not UTF-8", shown(k))
		}
	}
	if size > maxMap {
		c.fail(field, "are %d bytes in all: at most %d are possible", size, maxMap)
	}
	return m
}

// at names an element of a list.
func at(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
