package supervise

import (
	"slices"
	"syscall"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// accept takes one connection. Only root may ask; another user's is closed without a word. With connMax of them, further
// ones stay in the kernel's queue until one is over: a connection that is closed unread looks to its client like a monitor
// that has died.
func (s *supervisor) accept() {
	fd, uid, err := accept(s.listen)
	if err != nil {
		return
	}
	free := slices.Index(s.conns[:], -1)
	if uid != 0 || free < 0 || s.add(fd, syscall.EPOLLIN) != nil {
		syscall.Close(fd)
		return
	}
	s.conns[free] = fd
	if !slices.Contains(s.conns[:], -1) {
		s.awaitConns(0)
	}
}

func (s *supervisor) awaitConns(events uint32) {
	syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_MOD, s.listen, &syscall.EpollEvent{Events: events, Fd: int32(s.listen)})
}

// answer takes one request of a connection and replies.
func (s *supervisor) answer(fd int) {
	n, err := syscall.Read(fd, s.request[:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n <= 0 {
		s.hangUp(fd)
		return
	}
	r, reply := s.parse(s.request[:n])
	if reply == nil && r.Verb == monitor.Attach {
		s.attach(fd, r.Streams)
		return
	}
	if reply == nil {
		reply = s.do(r)
	}
	if send(fd, reply) != nil {
		s.hangUp(fd)
	}
}

func (s *supervisor) hangUp(fd int) {
	for i := range s.conns {
		if s.conns[i] == fd {
			s.conns[i] = -1
			syscall.Close(fd)
			s.awaitConns(syscall.EPOLLIN)
		}
	}
}

// parse returns a request, or the reply to what is none.
func (s *supervisor) parse(packet []byte) (r monitor.Request, reply []byte) {
	if len(packet) > monitor.PacketMax {
		return r, s.refuse("request too long")
	}
	r, err := monitor.ParseRequest(packet)
	if err != nil {
		return r, s.refuse(err.Error())
	}
	return r, nil
}

// do carries a request out and returns the reply's packet.
func (s *supervisor) do(r monitor.Request) []byte {
	var err error
	switch r.Verb {
	case monitor.Reopen:
		err = s.log.Reopen(now())
	case monitor.Resize:
		if s.args.Console < 0 {
			return s.refuse("the container has no terminal")
		}
		err = setWindowSize(s.args.Console, r.Width, r.Height)
	case monitor.Stats:
		b := monitor.AppendReply(s.reply[:0], false, "")
		return monitor.Counters{Read: s.read, Lost: s.log.Lost()}.Append(append(b, ' '))
	}
	if err != nil {
		return s.refuse(err.Error())
	}
	return monitor.AppendReply(s.reply[:0], false, "")
}

func (s *supervisor) refuse(why string) []byte {
	return monitor.AppendReply(s.reply[:0], true, why)
}
