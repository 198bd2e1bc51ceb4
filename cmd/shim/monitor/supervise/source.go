package supervise

import (
	"syscall"

	"github.com/runtimed/runtimed/pkg/logs/entry"
)

const (
	readUsual  = 64 << 10  // bytes: a pipe's usual size
	readBusy   = 128 << 10 // after busyAfter full reads in a row: more falls out of the processor's cache
	pipeUsual  = 64 << 10
	pipeBusy   = 1 << 20
	busyAfter  = 4
	outSize    = 256 << 10
	ttyReads   = 16 // of a terminal at a time, so that it cannot keep others waiting
	memorySize = readBusy + outSize + 2*entry.PartSize
)

// source is where output comes from.
type source struct {
	fd     int // -1 when it has ended
	stream *entry.Stream
	tty    bool
	full   int // full reads in a row
	busy   bool
}

// memory are the buffers: outside the heap, so that quiet monitors can give them back.
type memory struct {
	in, out, held []byte
}

// buffers maps the buffers and makes the log's encoder in them. Pages that are not touched cost nothing.
func (s *supervisor) buffers() error {
	m, err := syscall.Mmap(-1, 0, memorySize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return fail("make", "log buffers", err)
	}
	s.memory = memory{in: m[:readBusy], out: m[readBusy : readBusy+outSize : readBusy+outSize], held: m[readBusy+outSize:]}
	s.encoder = entry.NewEncoder(s.log, s.memory.out)
	held := s.memory.held
	stdout, stderr := held[:entry.PartSize:entry.PartSize], held[entry.PartSize:]
	s.sources[0] = source{fd: s.args.Stdout, stream: entry.NewStream(entry.Stdout, stdout)}
	s.sources[1] = source{fd: s.args.Stderr, stream: entry.NewStream(entry.Stderr, stderr)}
	if s.args.TTY {
		s.sources[0].fd, s.sources[0].tty = s.args.Console, true
	}
	return nil
}

// interest is level-triggered for a pipe. A terminal hangs up whenever nobody has its other end open, which a program
// may do for a while: an edge tells of the next change instead of the same hang-up for ever.
func (src *source) interest() uint32 {
	if src.tty {
		return syscall.EPOLLIN | 1<<31 // EPOLLET, which is negative in package syscall
	}
	return syscall.EPOLLIN
}

// drain reads a source: once from a pipe, which asks again; from a terminal until it has no more.
func (s *supervisor) drain(src *source) {
	s.used = true
	if !src.tty {
		s.take(src)
		return
	}
	for range ttyReads {
		if !s.take(src) {
			return
		}
	}
	s.again(src)
}

// again has the kernel tell of the source's present state, as if it had just changed.
func (s *supervisor) again(src *source) {
	e := syscall.EpollEvent{Events: src.interest(), Fd: int32(src.fd)}
	syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_MOD, src.fd, &e)
}

// take reads once and tells whether there may be more.
func (s *supervisor) take(src *source) bool {
	size := readUsual
	if src.busy {
		size = readBusy
	}
	n, err := syscall.Read(src.fd, s.memory.in[:size])
	if n > 0 {
		s.read += uint64(n)
		if s.args.LogPath != "" {
			s.encoder.Write(src.stream, now(), s.memory.in[:n])
		}
		s.share(src, s.memory.in[:n])
		s.pace(src, n == size)
		return true
	}
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
	case src.tty && !s.ended: // EIO: nobody has the other end open now
	default:
		syscall.Close(src.fd)
		src.fd = -1
	}
	return err == syscall.EINTR
}

// pace goes to larger reads and a larger pipe when a container writes faster than it is read.
func (s *supervisor) pace(src *source, full bool) {
	if src.busy || src.tty {
		return
	}
	if !full {
		src.full = 0
		return
	}
	if src.full++; src.full >= busyAfter {
		src.busy = true
		fcntl(src.fd, fSetPipeSize, pipeBusy) // refused above the user's limit: larger reads alone still help
	}
}

// idle makes everything small again. What is held of an unfinished line (a prompt, say) goes to the log as a part.
func (s *supervisor) idle() {
	held := false
	for i := range s.sources {
		src := &s.sources[i]
		s.encoder.Flush(src.stream, now())
		held = held || src.stream.Held() > 0
		if src.fd >= 0 && src.busy && fcntl(src.fd, fSetPipeSize, pipeUsual) == nil {
			src.busy = false
		}
		src.full = 0
	}
	s.log.Mark(now())
	s.reap()
	syscall.Madvise(s.memory.in, syscall.MADV_DONTNEED)
	syscall.Madvise(s.memory.out, syscall.MADV_DONTNEED)
	if !held {
		syscall.Madvise(s.memory.held, syscall.MADV_DONTNEED)
	}
	s.used = false
}
