package supervise

import (
	"syscall"
	"unsafe"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

const (
	attachMax  = 64
	attachRoom = 512 << 10 // bytes that the kernel may keep for an attachment that does not read
	lastRoom   = 128 << 10 // and beyond that, at the end: more than one frame, which may fill what is only nearly full

	soSndbufForce = 32
)

// attachment is a connection that gets the container's output.
type attachment struct {
	fd     int // -1 when it is free
	wants  monitor.Streams
	full   bool   // it could not take the frame that is being sent
	behind bool   // it did not read in time, and is not waited for
	lost   uint64 // bytes that it has not got, and has not been told of
	closed bool   // it is still to be told that the container's input is over
}

// attach makes a connection an attachment.
func (s *supervisor) attach(fd int, wants monitor.Streams) {
	a := s.freeAttachment()
	if a == nil {
		send(fd, s.refuse("64 sessions are attached already"))
		return
	}
	if s.args.TTY { // what the attachment will not get, a prompt say, is in the log: a client can show both
		s.encoder.Flush(s.sources[0].stream, now())
	}
	input, text := s.input(wants.Stdin)
	wants.Stdin = input >= 0
	if sendRights(fd, monitor.AppendReply(s.reply[:0], false, text), input) != nil {
		s.hangUp(fd)
		return
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soSndbufForce, attachRoom) // else the usual room
	for i := range s.conns {
		if s.conns[i] == fd {
			s.conns[i] = -1 // its place is for who asks
			s.awaitConns(syscall.EPOLLIN)
		}
	}
	*a = attachment{fd: fd, wants: wants}
	s.attached++
}

func (s *supervisor) freeAttachment() *attachment {
	for i := range s.attachments {
		if s.attachments[i].fd < 0 {
			return &s.attachments[i]
		}
	}
	return nil
}

func (s *supervisor) attachment(fd int) *attachment {
	for i := range s.attachments {
		if s.attachments[i].fd == fd {
			return &s.attachments[i]
		}
	}
	return nil
}

// input is what the container reads from, where it is wanted and there is one.
func (s *supervisor) input(wanted bool) (fd int, text string) {
	switch {
	case wanted && s.args.TTY && s.sources[0].fd >= 0:
		return s.args.Console, monitor.InputTerminal
	case wanted && s.args.Stdin >= 0:
		return s.args.Stdin, monitor.InputPipe
	}
	return -1, monitor.InputNone
}

// serveAttachment takes what an attachment says, or that it can take more.
func (s *supervisor) serveAttachment(a *attachment, events uint32) {
	if events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		n, err := syscall.Read(a.fd, s.request[:])
		switch {
		case err == syscall.EAGAIN || err == syscall.EINTR:
		case n == 1 && s.request[0] == monitor.FrameClosed:
			s.inputOver(a)
		default: // gone, or it is not one of ours
			s.detach(a)
			return
		}
	}
	if events&syscall.EPOLLOUT != 0 && s.tell(a) == nil {
		a.behind = false
		s.interest(a, syscall.EPOLLIN)
	}
}

func (s *supervisor) detach(a *attachment) {
	syscall.Close(a.fd)
	*a = attachment{fd: -1}
	s.attached--
}

// inputOver ends a session's input, and the container's with it where that reads one session only. A terminal has no
// end of file: there the next session goes on where this one left.
func (s *supervisor) inputOver(a *attachment) {
	was := a.wants.Stdin
	a.wants.Stdin = false
	if !was || !s.args.StdinOnce || s.args.TTY || s.args.Stdin < 0 {
		return
	}
	syscall.Close(s.args.Stdin)
	s.args.Stdin = -1
	for i := range s.attachments {
		other := &s.attachments[i]
		if other.fd < 0 || !other.wants.Stdin {
			continue
		}
		other.wants.Stdin, other.closed = false, true
		if s.tell(other) != nil {
			s.interest(other, syscall.EPOLLIN|syscall.EPOLLOUT)
		}
	}
}

// share gives what was just read to all who are attached.
func (s *supervisor) share(src *source, p []byte) {
	if s.attached == 0 {
		return
	}
	kind := byte(monitor.FrameStdout)
	if src == &s.sources[1] {
		kind = monitor.FrameStderr
	}
	for len(p) > 0 {
		frame := p[:min(len(p), monitor.FrameMax)]
		p = p[len(frame):]
		full := false
		for i := range s.attachments {
			a := &s.attachments[i]
			if a.fd >= 0 && (kind == monitor.FrameStdout && a.wants.Stdout || kind == monitor.FrameStderr && a.wants.Stderr) {
				s.give(a, kind, frame)
				full = full || a.full
			}
		}
		if full {
			s.giveLate(kind, frame)
		}
	}
}

// give sends one frame, counts it as lost, or leaves the attachment full. One that is behind gets nothing until it has
// caught up: one gap is better than many.
func (s *supervisor) give(a *attachment, kind byte, p []byte) {
	a.full = false
	if a.behind {
		a.lost += uint64(len(p))
		return
	}
	err := s.tell(a)
	if err == nil {
		err = s.sendFrame(a.fd, kind, p)
	}
	switch {
	case err == syscall.EAGAIN:
		a.full = true
	case err != nil:
		s.detach(a)
	}
}

// giveLate waits for all that are full, together, and counts what was for those that make no room as lost.
func (s *supervisor) giveLate(kind byte, p []byte) {
	until := clock(clockMonotonic) + monitor.Patience*1e6
	if s.ended {
		until = min(until, s.deadline)
	}
	for i := range s.attachments {
		a := &s.attachments[i]
		for a.fd >= 0 && a.full {
			room := awaitRoom(a.fd, until)
			s.give(a, kind, p)
			if a.full && !room {
				a.full, a.behind = false, true
				a.lost += uint64(len(p))
				s.interest(a, syscall.EPOLLIN|syscall.EPOLLOUT)
			}
		}
	}
}

// awaitRoom waits until a connection can take more, and is false when it cannot by then.
func awaitRoom(fd int, until int64) bool {
	left := until - clock(clockMonotonic)
	if left <= 0 {
		return false
	}
	fds := [...]pollFd{{fd: int32(fd), events: pollOut}}
	return pollFor(fds[:], left) > 0
}

// tell says what an attachment has missed; EAGAIN when it cannot be told yet.
func (s *supervisor) tell(a *attachment) error {
	if a.closed {
		if err := s.sendFrame(a.fd, monitor.FrameClosed, nil); err != nil {
			return err
		}
		a.closed = false
	}
	if a.lost > 0 {
		if err := send(a.fd, monitor.AppendLost(s.reply[:0], a.lost)); err != nil {
			return err
		}
		a.lost = 0
	}
	return nil
}

func (s *supervisor) interest(a *attachment, events uint32) {
	syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_MOD, a.fd, &syscall.EpollEvent{Events: events, Fd: int32(a.fd)})
}

// farewell tells all who are attached what they have missed, and that there is nothing more. For this there is room beyond
// what an attachment that does not read may hold.
func (s *supervisor) farewell() {
	for i := range s.attachments {
		a := &s.attachments[i]
		if a.fd < 0 {
			continue
		}
		syscall.SetsockoptInt(a.fd, syscall.SOL_SOCKET, soSndbufForce, attachRoom+lastRoom)
		if s.tell(a) == nil {
			s.sendFrame(a.fd, monitor.FrameEnd, nil)
		}
	}
}

// sendFrame sends a packet of two parts, without joining them in memory.
func (s *supervisor) sendFrame(fd int, kind byte, p []byte) error {
	s.kind[0] = kind
	s.parts[0].Base, s.parts[0].Len = &s.kind[0], 1
	count := uint64(1)
	if len(p) > 0 {
		s.parts[1].Base, s.parts[1].Len = &p[0], uint64(len(p))
		count = 2
	}
	s.message = syscall.Msghdr{Iov: &s.parts[0], Iovlen: count}
	return sendMessage(fd, &s.message)
}

// sendRights sends a packet, and a descriptor with it unless that is negative.
func sendRights(fd int, p []byte, pass int) error {
	part := syscall.Iovec{Base: &p[0], Len: uint64(len(p))}
	m := syscall.Msghdr{Iov: &part, Iovlen: 1}
	rights := struct {
		header syscall.Cmsghdr
		fd     int32
		_      int32 // control messages are padded to 8 bytes
	}{header: syscall.Cmsghdr{Len: syscall.SizeofCmsghdr + 4, Level: syscall.SOL_SOCKET, Type: syscall.SCM_RIGHTS}, fd: int32(pass)}
	if pass >= 0 {
		m.Control, m.Controllen = (*byte)(unsafe.Pointer(&rights)), uint64(unsafe.Sizeof(rights))
	}
	return sendMessage(fd, &m)
}
