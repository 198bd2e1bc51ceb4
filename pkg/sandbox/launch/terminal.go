package launch

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// socketPair makes a socket for the stage and its other end, of which the runtime can poll.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "console")
	own := os.NewFile(uintptr(fds[0]), "console")
	defer own.Close()
	conn, err := net.FileConn(own) // a duplicate
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
}

var errNoTerminal = errors.New("not one terminal was sent")

// receiveTerminal takes the master end of a terminal: one descriptor, and it must be such a master.
func receiveTerminal(from *net.UnixConn) (*os.File, error) {
	name, control := make([]byte, 256), make([]byte, unix.CmsgSpace(4*4))
	_, n, flags, _, err := from.ReadMsgUnix(name, control)
	if err != nil {
		return nil, err
	}
	fds, err := rights(control[:n])
	if err == nil && (len(fds) != 1 || flags&unix.MSG_CTRUNC != 0) {
		err = errNoTerminal
	}
	if err == nil {
		err = isMaster(fds[0])
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// rights are the descriptors of a control message.
func rights(control []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		some, e := unix.ParseUnixRights(&m)
		if e != nil {
			err = e
		}
		fds = append(fds, some...)
	}
	return fds, err
}

// isMaster refuses everything but the master end of a pseudo-terminal, and makes it one that can be polled.
func isMaster(fd int) error {
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil { // succeeds for a master only
		return os.NewSyscallError("ioctl", err)
	}
	unix.CloseOnExec(fd)
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// terminal is the master end of a command's terminal.
type terminal struct{ *os.File }

// resize follows the caller's window until the session is over.
func (t *terminal) resize(sizes <-chan spec.TerminalSize, over <-chan struct{}) {
	for {
		select {
		case size, more := <-sizes:
			if !more {
				return
			}
			t.setSize(size)
		case <-over:
			return
		}
	}
}

func (t *terminal) setSize(size spec.TerminalSize) error {
	return t.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: size.Width, Row: size.Height})
	})
}

// feed types what the caller sends. A terminal has no end of file: at the caller's, the character for it is typed.
func (t *terminal) feed(from io.Reader) {
	if _, err := io.Copy(t.File, from); err == nil {
		t.Write([]byte{t.endOfFile()})
	}
}

func (t *terminal) endOfFile() byte {
	char := byte(4) // ^D
	t.control(func(fd int) error {
		settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && settings.Cc[unix.VEOF] != 0 {
			char = settings.Cc[unix.VEOF]
		}
		return err
	})
	return char
}

func (t *terminal) control(f func(fd int) error) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}
