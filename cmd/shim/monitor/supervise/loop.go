package supervise

import (
	"slices"
	"strconv"
	"syscall"

	"github.com/runtimed/runtimed/pkg/logs/entry"
	"github.com/runtimed/runtimed/pkg/logs/logfile"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

const (
	idleAfter = 1000 // ms without an event: buffers are given back, an unfinished line is shown
	drainFor  = 1000 // ms at most after init's end, for output that is still in the pipes
	oomScore  = "-999"
	eventsMax = 16
	connMax   = 16
)

type supervisor struct {
	args   monitor.Args
	pidfd  int
	listen int
	exit   int  // descriptor of the file that becomes exit.json
	stated bool // started.json is written

	log     *logfile.File
	encoder *entry.Encoder
	memory  memory
	sources [2]source // stdout and stderr, or the terminal
	read    uint64    // bytes, in all
	used    bool      // buffers or pipes are larger than in quiet times

	epoll   int
	events  [eventsMax]syscall.EpollEvent
	conns   [connMax]int
	request [monitor.PacketMax + 1]byte
	reply   [monitor.PacketMax]byte

	attachments [attachMax]attachment
	attached    int
	// of the frame that is being sent
	message syscall.Msghdr
	parts   [2]syscall.Iovec
	kind    [1]byte

	oom      oomWatch
	ended    bool
	status   syscall.WaitStatus
	endedAt  int64 // ns
	deadline int64 // ns of the monotonic clock, when ended
}

// Run supervises the container that a describes until its end, and returns the process's exit code: 0 when the exit
// was stated, 1 when the container could not be let go.
func Run(a monitor.Args) int {
	deafen()
	writeFile("/proc/self/oom_score_adj", oomScore) // not every node permits it
	s := &supervisor{args: a, pidfd: -1, listen: -1, exit: -1, epoll: -1}
	for i := range s.conns {
		s.conns[i] = -1
	}
	for i := range s.attachments {
		s.attachments[i].fd = -1
	}
	if err := s.start(); err != nil {
		s.abandon(err)
		return 1
	}
	detach()
	s.loop()
	s.end()
	return 0
}

// deafen leaves SIGKILL as the only way to end the monitor from outside. SIGXFSZ and SIGPIPE become errors of write(2).
func deafen() {
	for _, sig := range [...]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXFSZ, syscall.SIGXCPU,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGIO,
		syscall.SIGPWR} {
		ignore(sig)
	}
}

// detach lets go of what the launcher may wait for, and of the directory that it was started in.
func detach() {
	syscall.Chdir("/")
	fd, err := open("/dev/null", syscall.O_RDWR, 0)
	if err != nil {
		return
	}
	for std := range 3 {
		syscall.Dup3(fd, std, 0)
	}
	if fd > 2 {
		syscall.Close(fd)
	}
}

// watch registers everything that the loop waits for.
func (s *supervisor) watch() error {
	var err error
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fail("make", "epoll descriptor", err)
	}
	for _, fd := range [...]int{s.pidfd, s.listen} {
		if err := s.add(fd, syscall.EPOLLIN); err != nil {
			return fail("watch", "the container", err)
		}
	}
	for i := range s.sources {
		if src := &s.sources[i]; src.fd >= 0 {
			if err := s.add(src.fd, src.interest()); err != nil {
				return fail("watch", "the container's output", err)
			}
		}
	}
	return s.watchLeft()
}

// watchLeft watches what the creator may have left beside init, to reap it when it ends.
func (s *supervisor) watchLeft() error {
	self := strconv.Itoa(syscall.Getpid())
	var buf [1024]byte
	text, _ := readFile("/proc/"+self+"/task/"+self+"/children", buf[:]) // a kernel without it: see idle
	for i := range text {
		if text[i] == ' ' {
			text[i] = '\n'
		}
	}
	for _, pid := range parseProcs(text, s.args.InitPID) {
		fd, err := pidfdOpen(pid)
		if err == nil {
			err = s.add(fd, syscall.EPOLLIN)
		}
		if err != nil && err != syscall.ESRCH {
			return fail("watch", "a child that the creator left", err)
		}
	}
	return nil
}

func (s *supervisor) add(fd int, events uint32) error {
	return syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// loop runs until init has ended and its output is read, or drainFor has passed since.
func (s *supervisor) loop() {
	s.reap()
	for !s.ended || s.listening() {
		timeout := s.timeout()
		if s.ended && timeout == 0 {
			return
		}
		n, err := syscall.EpollWait(s.epoll, s.events[:], timeout)
		switch {
		case err == syscall.EINTR:
			s.reap()
		case err != nil:
			pause(idleAfter) // cannot happen; a busy loop would be the worst answer
		case n == 0 && !s.ended:
			s.idle()
		}
		for i := range max(n, 0) {
			s.serve(int(s.events[i].Fd), s.events[i].Events)
		}
	}
}

// listening tells whether a source can still bring output.
func (s *supervisor) listening() bool { return s.sources[0].fd >= 0 || s.sources[1].fd >= 0 }

// timeout is for epoll_wait, in ms.
func (s *supervisor) timeout() int {
	switch {
	case s.ended:
		return max(0, int((s.deadline-clock(clockMonotonic)+1e6-1)/1e6))
	case s.used || s.log.Pending():
		return idleAfter
	}
	return -1
}

func (s *supervisor) serve(fd int, events uint32) {
	switch fd {
	case s.pidfd:
		s.reap()
	case s.listen:
		s.accept()
	case s.sources[0].fd:
		s.drain(&s.sources[0])
	case s.sources[1].fd:
		s.drain(&s.sources[1])
	default:
		if slices.Contains(s.conns[:], fd) {
			s.answer(fd)
			return
		}
		if a := s.attachment(fd); a != nil {
			s.serveAttachment(a, events)
			return
		}
		syscall.Close(fd) // a child that the creator left has ended
		s.reap()
	}
}

// reap takes the exit status of every child that has ended. The creator may have left one beside init.
func (s *supervisor) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == s.args.InitPID && !s.ended {
			s.initEnded(ws)
		}
	}
}

// initEnded kills what init leaves behind: with the pod's or the node's PID namespace its children live on, and would
// hold the pipes.
func (s *supervisor) initEnded(ws syscall.WaitStatus) {
	s.ended, s.status, s.endedAt = true, ws, now()
	s.oom.look()
	syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_DEL, s.pidfd, nil)
	killGroup(s.args.KillFiles, s.args.ProcsFiles)
	s.deadline = clock(clockMonotonic) + drainFor*1e6
	if src := &s.sources[0]; src.tty && src.fd >= 0 {
		s.again(src) // its hang-up, which came before, is now its end
	}
}

// end states the exit, after the log is whole.
func (s *supervisor) end() {
	for i := range s.sources {
		s.encoder.Flush(s.sources[i].stream, now())
	}
	s.log.Mark(now())
	s.oom.look()
	code := exitCode(s.status)
	writeExit(s.exit, s.args.Dir, outcome{
		at: s.endedAt, code: code, oomKilled: s.oom.killed(code), lost: s.log.Lost(),
	})
	s.farewell()
	syscall.Unlink(s.args.Socket)
}
