package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Streams are what an attachment wants.
type Streams = monitor.Streams

// Kinds of frames.
const (
	Stdout = monitor.FrameStdout // also a terminal's output
	Stderr = monitor.FrameStderr
	Lost   = monitor.FrameLost   // so much output is missing before what follows
	Closed = monitor.FrameClosed // the container's input is over: close Input
)

// Attachment is a connection that gets a container's output. One goroutine may read it and another one write to Input.
type Attachment struct {
	conn *net.UnixConn
	// Input is the container's own input, where the attachment asked for it and there is one; else nil. A write waits
	// for the container. For a terminal, Terminal is true, and nothing may be read from it.
	Input    *os.File
	Terminal bool
	frame    [1 + monitor.FrameMax]byte
}

// Attach begins an attachment: the container's output from now on. A monitor of a release that knew no attachments, or
// one that has too many, refuses with FailedPrecondition.
func (c Client) Attach(ctx context.Context, want Streams) (*Attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	a, err := c.attach(ctx, want)
	if err != nil {
		return nil, explain(ctx, monitor.Attach, err)
	}
	return a, nil
}

func (c Client) attach(ctx context.Context, want Streams) (*Attachment, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	a := &Attachment{conn: conn.(*net.UnixConn)}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	if err = a.begin(want); err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop()
		a.Close()
		return nil, err
	}
	return a, nil
}

// begin asks, and takes the container's input.
func (a *Attachment) begin(want Streams) error {
	if _, err := a.conn.Write(monitor.Request{Verb: monitor.Attach, Streams: want}.Append(nil)); err != nil {
		return err
	}
	reply, control := make([]byte, monitor.PacketMax), make([]byte, unix.CmsgSpace(4*4))
	n, m, _, _, err := a.conn.ReadMsgUnix(reply, control)
	if err != nil {
		return err
	}
	fds, err := rights(control[:m])
	if err == nil {
		err = a.take(reply[:n], fds)
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	return err
}

func (a *Attachment) take(reply []byte, fds []int) error {
	text, err := monitor.ParseReply(reply)
	if err != nil {
		return err
	}
	want := 1
	switch text {
	case monitor.InputNone:
		want = 0
	case monitor.InputTerminal, monitor.InputPipe:
	default:
		return monitor.ErrReply
	}
	if len(fds) != want {
		return monitor.ErrReply
	}
	if want == 0 {
		return nil
	}
	unix.CloseOnExec(fds[0])
	a.Input, a.Terminal = os.NewFile(uintptr(fds[0]), "input"), text == monitor.InputTerminal
	return nil
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

// Frame is one part of an attachment.
type Frame struct {
	Kind byte
	Data []byte // of Stdout and Stderr; until the next call
	Lost uint64 // bytes, of Lost
}

// Next waits for the next frame. io.EOF is the end that the monitor has stated; before it, a shim that is gone is Unavailable.
// Interrupt ends the wait with os.ErrDeadlineExceeded.
func (a *Attachment) Next() (Frame, error) {
	n, err := a.conn.Read(a.frame[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Frame{}, err
	case err != nil || n == 0:
		return Frame{}, spec.Errorf(errdefs.ErrUnavailable, "the container's shim broke the attachment off: its last output may be missing here")
	}
	kind, data, lost, err := monitor.ParseFrame(a.frame[:n])
	if err != nil {
		return Frame{}, spec.Errorf(errdefs.ErrInternal, "output of an attachment: %w", err)
	}
	if kind == monitor.FrameEnd {
		return Frame{}, io.EOF
	}
	return Frame{Kind: kind, Data: data, Lost: lost}, nil
}

// Interrupt ends a Next that waits, and every later one.
func (a *Attachment) Interrupt() { a.conn.SetReadDeadline(time.Unix(1, 0)) }

// InputOver says that this session's input has ended. A container that reads one session only reads an end of file.
func (a *Attachment) InputOver() error {
	_, err := a.conn.Write([]byte{monitor.FrameClosed})
	return err
}

// Close leaves. The container does not notice.
func (a *Attachment) Close() error {
	a.Input.Close() // of a nil file: an error, and no harm
	return a.conn.Close()
}
