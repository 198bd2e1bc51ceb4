package supervise

import (
	"syscall"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// accept takes one connection. Only root may ask. Another user's connection is closed without a word, and so is one
// beyond connMax, which its client reports.
func (s *supervisor) accept() {
	fd, uid, err := accept(s.listen)
	if err != nil {
		return
	}
	if uid != 0 {
		syscall.Close(fd)
		return
	}
	for i := range s.conns {
		if s.conns[i] < 0 {
			if s.add(fd, syscall.EPOLLIN) != nil {
				break
			}
			s.conns[i] = fd
			return
		}
	}
	syscall.Close(fd)
}

// answer takes one request of a connection and replies.
func (s *supervisor) answer(fd int) {
	n, err := syscall.Read(fd, s.request[:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n <= 0 || send(fd, s.do(s.request[:n])) != nil {
		s.hangUp(fd)
	}
}

func (s *supervisor) hangUp(fd int) {
	for i := range s.conns {
		if s.conns[i] == fd {
			s.conns[i] = -1
			syscall.Close(fd)
		}
	}
}

// do carries a request out and returns the reply's packet.
func (s *supervisor) do(packet []byte) []byte {
	if len(packet) > monitor.PacketMax {
		return s.refuse("request too long")
	}
	r, err := monitor.ParseRequest(packet)
	if err != nil {
		return s.refuse(err.Error())
	}
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
