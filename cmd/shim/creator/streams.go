package creator

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// streams are the ends of the container's standard streams. Those of ours become the monitor's.
type streams struct {
	// The container's; closed here once it runs. socket is libcontainer's way to hand the terminal out.
	stdin, stdout, stderr, socket *os.File
	// Ours.
	toStdin, fromStdout, fromStderr, fromSocket, console *os.File
}

// openStreams makes the pipes, or the way for the terminal. A pipe belongs to the container's root first: its init then
// gives it to the user, which it could not do with one of a user that its namespace does not know.
func (c *creator) openStreams(context.Context) error {
	s := &c.streams
	if c.bundle.Launch.TTY {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socketpair", err)
		}
		s.fromSocket, s.socket = os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
		c.process.ConsoleSocket = s.socket
		return nil
	}
	if c.bundle.Launch.Stdin {
		if err := c.pipe(&s.stdin, &s.toStdin); err != nil {
			return err
		}
		c.process.Stdin = s.stdin // else libcontainer opens /dev/null
	}
	if err := c.pipe(&s.fromStdout, &s.stdout); err != nil {
		return err
	}
	if err := c.pipe(&s.fromStderr, &s.stderr); err != nil {
		return err
	}
	c.process.Stdout, c.process.Stderr = s.stdout, s.stderr
	return nil
}

func (c *creator) pipe(r, w **os.File) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	*r, *w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
	if err := unix.Fchown(p[0], c.rootUID, c.rootGID); err != nil { // both ends are one inode
		return os.NewSyscallError("chown", err)
	}
	return nil
}

// closeTheirs closes what only the container holds from now on, so that an end of file comes through.
func (s *streams) closeTheirs() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr, s.socket} {
		f.Close() // of a nil file: an error, and no harm
	}
}

// receiveConsole takes the terminal's master end, which the container's init has sent before it was ready.
func (c *creator) receiveConsole(context.Context) error {
	if !c.bundle.Launch.TTY {
		return nil
	}
	defer c.streams.fromSocket.Close()
	name, control := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	_, n, flags, _, err := unix.Recvmsg(int(c.streams.fromSocket.Fd()), name, control, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return fmt.Errorf("terminal of the container: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 || flags&unix.MSG_CTRUNC != 0 {
		return errors.New("terminal of the container: not one descriptor was sent")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return errors.New("terminal of the container: not one descriptor was sent")
	}
	c.streams.console = os.NewFile(uintptr(fds[0]), "console")
	return nil
}
