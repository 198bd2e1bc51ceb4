package supervise

import (
	"strconv"
	"syscall"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// The monitor's two facts, in the JSON form of spec.Started and spec.Exit; encoding/json is too large to be linked, and
// a test reads them back with it. Names that begin with a dot are not read by anyone: they become facts by rename.
const (
	startedFile = "started.json"
	exitFile    = "exit.json"
	startedTmp  = ".started.json"
	exitTmp     = ".exit.json"
	version     = 1

	exitRoom  = 4096 // bytes, for exit.json on a full disk
	exitTries = 5
)

func startedJSON(a monitor.Args, at int64) []byte {
	b := appendInt(nil, `{"Version":`, version)
	b = appendInt(b, `,"StartedAt":`, at)
	b = appendInt(b, `,"Init":{"PID":`, int64(a.InitPID))
	b = strconv.AppendUint(append(b, `,"StartTicks":`...), a.InitTicks, 10)
	b = appendJSON(append(b, `,"BootID":`...), a.BootID)
	return append(b, "}}\n"...)
}

// outcome is how the container ended.
type outcome struct {
	at        int64 // ns
	code      int
	oomKilled bool
	lost      uint64
}

func (o outcome) json() []byte {
	b := appendInt(nil, `{"Version":`, version)
	b = appendInt(b, `,"FinishedAt":`, o.at)
	b = appendInt(b, `,"Code":`, int64(o.code))
	b = strconv.AppendBool(append(b, `,"OOMKilled":`...), o.oomKilled)
	b = append(b, `,"Reason":"","Message":""`...)
	b = strconv.AppendUint(append(b, `,"LogLost":`...), o.lost, 10)
	return append(b, "}\n"...)
}

// exitCode is the shell's: 128+n for signal n.
func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// writeStarted states the start.
func writeStarted(a monitor.Args, at int64) error {
	tmp := a.Dir + "/" + startedTmp
	fd, err := open(tmp, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail("write", a.Dir+"/"+startedFile, err)
	}
	err = writeAt(fd, startedJSON(a, at))
	syscall.Close(fd)
	if err == nil {
		err = syscall.Rename(tmp, a.Dir+"/"+startedFile)
	}
	if err != nil {
		syscall.Unlink(tmp)
		return fail("write", a.Dir+"/"+startedFile, err)
	}
	return nil
}

// reserveExit makes the file that is to become exit.json, with its room on the disk, so that the exit can be stated
// when the disk is full by then.
func reserveExit(dir string) (int, error) {
	path := dir + "/" + exitTmp
	fd, err := open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, fail("make room for", dir+"/"+exitFile, err)
	}
	err = syscall.Fallocate(fd, 0, 0, exitRoom)
	if err == syscall.EOPNOTSUPP {
		err = writeAt(fd, make([]byte, exitRoom))
	}
	if err != nil {
		syscall.Close(fd)
		syscall.Unlink(path)
		return -1, fail("make room for", dir+"/"+exitFile, err)
	}
	return fd, nil
}

// writeExit states the exit in the file that reserveExit made. It never replaces an exit that is stated already. When
// the disk refuses even this, nothing more can be done here: the daemon then reports the shim as lost.
func writeExit(fd int, dir string, o outcome) {
	text := o.json()
	tmp := dir + "/" + exitTmp
	for try := 0; ; try++ {
		err := writeAt(fd, text)
		if err == nil {
			err = syscall.Ftruncate(fd, int64(len(text)))
		}
		if err == nil {
			err = renameNew(tmp, dir+"/"+exitFile)
		}
		switch {
		case err == syscall.EEXIST || err == syscall.ENOENT || try == exitTries:
			syscall.Unlink(tmp)
			return
		case err == nil:
			return
		}
		pause(100)
	}
}

func writeAt(fd int, p []byte) error {
	for off := 0; off < len(p); {
		n, err := syscall.Pwrite(fd, p[off:], int64(off))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// appendJSON appends s as a JSON string. What is not ASCII is passed on as it is.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
