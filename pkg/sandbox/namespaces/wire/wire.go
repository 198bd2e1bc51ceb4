// Package wire is what the daemon and its short-lived helpers in namespaces say to each other. The holder of new
// namespaces gets one Setup on stdin, and says "pid <n>" and then a Reply on stdout; the starter of a pod's init says the
// same, and gets one byte between the two.
//
// It owns the form of both and the list of sysctls that belong to a namespace. It does nothing: writing a sysctl is the
// holder's part. The holder links it, so it imports next to nothing.
//
// The life of a Setup: Encode in the daemon → Read and Parse in the holder, which trusts no path of it unchecked →
// Reply.
package wire

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
)

// MaxSetup bounds an encoded Setup, in bytes.
const MaxSetup = 64 << 10

// header is the length that precedes an encoded Setup: four bytes, little-endian.
const header = 4

// Sysctl is one value to write. Path is below /proc/sys, such as "net/ipv4/ping_group_range".
type Sysctl struct{ Path, Value string }

// Setup is all that the holder does: the namespaces that it makes, and what it does in them.
type Setup struct {
	Kinds    []string // of "user", "net", "ipc", "uts"
	UIDMap   string   // uid_map and gid_map as the kernel takes them (user_namespaces(7)), with "user"
	GIDMap   string
	Hostname string // "" leaves it
	Loopback bool   // brings lo up
	Sysctls  []Sysctl
}

// Words of an encoded Setup; each of its fields ends with a NUL.
const (
	wordKind     = "kind"
	wordMaps     = "maps"
	wordHostname = "hostname"
	wordLoopback = "loopback"
	wordSysctl   = "sysctl"
)

// Encode returns the Setup with its header. A NUL in a string, or more than MaxSetup, is an error.
func (s Setup) Encode() ([]byte, error) {
	b := make([]byte, header, 256)
	add := func(fields ...string) error {
		for _, f := range fields {
			if strings.IndexByte(f, 0) >= 0 {
				return errors.New("a NUL in " + strconv.Quote(f))
			}
			b = append(append(b, f...), 0)
		}
		return nil
	}
	var err error
	for _, k := range s.Kinds {
		if err == nil {
			err = add(wordKind, k)
		}
	}
	if s.UIDMap+s.GIDMap != "" && err == nil {
		err = add(wordMaps, s.UIDMap, s.GIDMap)
	}
	if s.Hostname != "" && err == nil {
		err = add(wordHostname, s.Hostname)
	}
	if s.Loopback && err == nil {
		err = add(wordLoopback)
	}
	for _, c := range s.Sysctls {
		if err == nil {
			err = add(wordSysctl, c.Path, c.Value)
		}
	}
	if err != nil {
		return nil, err
	}
	n := len(b) - header
	if n > MaxSetup {
		return nil, errors.New("setup of " + strconv.Itoa(n) + " bytes is longer than " + strconv.Itoa(MaxSetup))
	}
	b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16)
	return b, nil
}

// Read reads one encoded Setup through read(2)'s signature and parses it.
func Read(read func([]byte) (int, error)) (Setup, error) {
	var h [header]byte
	if err := full(read, h[:]); err != nil {
		return Setup{}, err
	}
	n := int(h[0]) | int(h[1])<<8 | int(h[2])<<16 | int(h[3])<<24
	if n > MaxSetup {
		return Setup{}, errors.New("setup of " + strconv.Itoa(n) + " bytes")
	}
	b := make([]byte, n)
	if err := full(read, b); err != nil {
		return Setup{}, err
	}
	return Parse(b)
}

func full(read func([]byte) (int, error), b []byte) error {
	for len(b) > 0 {
		n, err := read(b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("the setup ends early")
		}
		b = b[n:]
	}
	return nil
}

// Parse is the reverse of Encode, without the header. Every sysctl path is one that Namespace knows.
func Parse(b []byte) (Setup, error) {
	var s Setup
	rest := string(b)
	field := func() (string, bool) {
		f, r, ok := strings.Cut(rest, "\x00")
		if ok {
			rest = r
		}
		return f, ok
	}
	for rest != "" {
		word, ok := field()
		if !ok {
			return Setup{}, errors.New("a word without an end")
		}
		switch word {
		case wordLoopback:
			s.Loopback = true
		case wordHostname:
			if s.Hostname, ok = field(); !ok || s.Hostname == "" {
				return Setup{}, errors.New("a host name without an end")
			}
		case wordKind:
			kind, ok := field()
			if !ok || !kinds[kind] {
				return Setup{}, errors.New("unknown kind of namespace " + strconv.Quote(kind))
			}
			s.Kinds = append(s.Kinds, kind)
		case wordMaps:
			var ok1, ok2 bool
			s.UIDMap, ok1 = field()
			s.GIDMap, ok2 = field()
			if !ok1 || !ok2 {
				return Setup{}, errors.New("maps without an end")
			}
		case wordSysctl:
			path, ok1 := field()
			value, ok2 := field()
			if !ok1 || !ok2 {
				return Setup{}, errors.New("a sysctl without an end")
			}
			if Namespace(path) == "" {
				return Setup{}, errors.New("sysctl " + strconv.Quote(path) + " belongs to no namespace")
			}
			s.Sysctls = append(s.Sysctls, Sysctl{path, value})
		default:
			return Setup{}, errors.New("unknown word " + strconv.Quote(word))
		}
	}
	return s, nil
}

var kinds = map[string]bool{"user": true, "net": true, "ipc": true, "uts": true}

// ipc are the sysctls below kernel/ that belong to an IPC namespace (namespaces(7), ipc_namespaces(7)).
var ipc = map[string]bool{"kernel/msgmax": true, "kernel/msgmnb": true, "kernel/msgmni": true, "kernel/sem": true,
	"kernel/shmall": true, "kernel/shmmax": true, "kernel/shmmni": true, "kernel/shm_rmid_forced": true}

// Namespace names the kind of namespace that a sysctl belongs to: "net", "ipc", "uts", or "" for the node's own and for
// what is no clean relative path below /proc/sys.
func Namespace(path string) string {
	if len(path) > 255 {
		return ""
	}
	for _, c := range strings.Split(path, "/") {
		if c == "" || c == "." || c == ".." {
			return ""
		}
		for i := range len(c) {
			if c[i] <= ' ' || c[i] >= 0x7f {
				return ""
			}
		}
	}
	switch {
	case strings.HasPrefix(path, "net/"):
		return "net"
	case ipc[path], strings.HasPrefix(path, "fs/mqueue/"):
		return "ipc"
	case path == "kernel/domainname":
		return "uts"
	}
	return ""
}

// PID is the line that says a process id.
func PID(n int) string { return "pid " + strconv.Itoa(n) + "\n" }

// ParsePID reads the line; ok is false for every other line.
func ParsePID(line string) (n int, ok bool) {
	text, ended := strings.CutSuffix(line, "\n")
	digits, named := strings.CutPrefix(text, "pid ")
	n, err := strconv.Atoi(digits)
	return n, ended && named && err == nil && n > 0
}

// Reply is the line that comes back: "ok", or "error <errno> <text>".
type Reply struct {
	Err   string // "" is ok
	Errno syscall.Errno
}

// Ready is the encoded Reply without an error.
const Ready = "ok\n"

// Encode returns the line.
func (r Reply) Encode() string {
	if r.Err == "" {
		return Ready
	}
	return "error " + strconv.Itoa(int(r.Errno)) + " " + strings.ReplaceAll(r.Err, "\n", " ") + "\n"
}

// ParseReply reads the line. What is no reply at all is an error of its own, as from a holder that died.
func ParseReply(line string) (Reply, error) {
	text, ended := strings.CutSuffix(line, "\n")
	if ended && text == "ok" {
		return Reply{}, nil
	}
	rest, ok := strings.CutPrefix(text, "error ")
	errno, message, ok2 := strings.Cut(rest, " ")
	n, err := strconv.Atoi(errno)
	if !ended || !ok || !ok2 || err != nil || n < 0 || message == "" {
		return Reply{}, errors.New("no answer but " + strconv.Quote(line))
	}
	return Reply{Err: message, Errno: syscall.Errno(n)}, nil
}
