package supervise

import (
	"errors"
	"strconv"
	"syscall"

	"github.com/runtimed/runtimed/pkg/logs/logfile"
	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// fail is an error for a person: what was asked, of which file, what is wrong.
func fail(what, path string, err error) error {
	return errors.New(what + " " + path + ": " + err.Error())
}

var errEarly = errors.New("the container's init ended before it ran the program")

// start does all that may fail, lets the program go, and says so.
func (s *supervisor) start() error {
	steps := [...]func() error{
		s.inherit, // first: no descriptor leaks, and the container's init is held by a descriptor
		s.openLog, // the log exists when StartContainer returns
		s.bind,    // the daemon finds a shim that started.json tells of
		s.watch,   // nothing that may fail comes after the program runs
		s.state,   // last before the program runs: a start that is stated happened, or is about to
		s.letGo,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	say(s.args.Status, "ready\n")
	s.args.Status = -1
	return nil
}

// abandon undoes a start that failed: the container never ran a program of its own.
func (s *supervisor) abandon(err error) {
	if ours, _ := s.child(); ours {
		syscall.Kill(s.args.InitPID, syscall.SIGKILL) // not reaped, so the pid is its own
		for {
			if _, e := syscall.Wait4(s.args.InitPID, nil, 0, nil); e != syscall.EINTR {
				break
			}
		}
	}
	killGroup(s.args.KillFiles, s.args.ProcsFiles)
	if s.listen >= 0 {
		syscall.Unlink(s.args.Socket)
	}
	if s.exit >= 0 {
		syscall.Unlink(s.args.Dir + "/" + exitTmp)
	}
	if s.stated {
		syscall.Unlink(s.args.Dir + "/" + startedFile)
	}
	say(s.args.Status, "error: "+err.Error()+"\n")
}

// say writes to the launcher. Nothing is done about a launcher that is gone: the daemon that follows reads the record.
func say(status int, text string) {
	if status >= 0 {
		syscall.Write(status, []byte(text))
		syscall.Close(status)
	}
}

func (s *supervisor) inherit() error {
	a := &s.args
	for _, fd := range [...]int{a.Stdout, a.Stderr, a.Stdin, a.Console, a.Status, a.Lock} {
		if fd < 0 {
			continue
		}
		if err := fcntl(fd, syscall.F_SETFD, syscall.FD_CLOEXEC); err != nil {
			return fail("take over descriptor", strconv.Itoa(fd), err)
		}
	}
	for _, fd := range [...]int{a.Stdout, a.Stderr, a.Stdin, a.Console} {
		if fd < 0 {
			continue
		}
		// Only this end of the pipe or terminal: the container's own end is another open file description.
		if err := fcntl(fd, syscall.F_SETFL, syscall.O_NONBLOCK); err != nil {
			return fail("take over descriptor", strconv.Itoa(fd), err)
		}
	}
	fd, err := pidfdOpen(a.InitPID)
	if err != nil {
		return fail("find the container's init", strconv.Itoa(a.InitPID), err)
	}
	s.pidfd = fd
	ours, dead := s.child()
	switch {
	case dead:
		return errEarly
	case !ours:
		return errors.New("process " + strconv.Itoa(a.InitPID) + " is not a child of the monitor")
	}
	s.oom = watchOOM(a.OOMFile)
	return nil
}

// child tells whether init is a child of ours that is not reaped; dead, whether it was and this call reaped it.
func (s *supervisor) child() (ours, dead bool) {
	for {
		pid, err := syscall.Wait4(s.args.InitPID, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR {
			return err == nil && pid == 0, err == nil && pid > 0
		}
	}
}

func (s *supervisor) openLog() error {
	log, err := logfile.Open(s.args.LogPath)
	if err != nil {
		return err
	}
	s.log = log
	return s.buffers()
}

func (s *supervisor) bind() error {
	const kind = syscall.SOCK_SEQPACKET | syscall.SOCK_NONBLOCK | syscall.SOCK_CLOEXEC
	path := s.args.Socket
	fd, err := syscall.Socket(syscall.AF_UNIX, kind, 0)
	if err != nil {
		return fail("make control socket", path, err)
	}
	if err := syscall.Unlink(path); err != nil && err != syscall.ENOENT {
		return fail("replace control socket", path, err)
	}
	mask := syscall.Umask(0o177)
	err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	syscall.Umask(mask)
	if err != nil {
		return fail("bind control socket", path, err)
	}
	s.listen = fd
	if err := syscall.Listen(fd, connMax); err != nil {
		return fail("listen on control socket", path, err)
	}
	return nil
}

func (s *supervisor) state() error {
	var err error
	if s.exit, err = reserveExit(s.args.Dir); err != nil {
		return err
	}
	if err := writeStarted(s.args, now()); err != nil {
		return err
	}
	s.stated = true
	return nil
}

// letGo takes the byte that init writes to its fifo just before it executes the program.
func (s *supervisor) letGo() error {
	path, before := s.args.Fifo, executes(s.args.InitPID)
	fd, err := open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fail("open", path, err)
	}
	defer syscall.Close(fd)
	fds := [...]pollFd{{fd: int32(fd), events: pollIn}, {fd: int32(s.pidfd), events: pollIn}}
	if err := poll(fds[:]); err != nil {
		return fail("wait for", path, err)
	}
	var b [1]byte
	n, err := syscall.Read(fd, b[:])
	if n != 1 {
		if fds[1].revents != 0 {
			return errEarly
		}
		if err == nil {
			err = errors.New("the container's init closed it without a word")
		}
		return fail("read", path, err)
	}
	if err := syscall.Unlink(path); err != nil {
		return fail("remove", path, err)
	}
	s.awaitProgram(before)
	return nil
}

// programMax is how long awaitProgram waits at most, in ms.
const programMax = 100

// awaitProgram waits until init executes another program than before, or has died. Until then a signal meets
// libcontainer, not the program: one sent right after the start would end the container with libcontainer's exit code.
func (s *supervisor) awaitProgram(before string) {
	for range programMax {
		if now := executes(s.args.InitPID); now != before || now == "" {
			return
		}
		pause(1)
	}
}

// executes is the path of what a process executes; "" for one that is dead.
func executes(pid int) string {
	var path [512]byte
	n, err := syscall.Readlink("/proc/"+strconv.Itoa(pid)+"/exe", path[:])
	if err != nil {
		return ""
	}
	return string(path[:n])
}

// Main is the program. It returns its exit code.
func Main() int {
	argv, err := cmdline()
	if err != nil {
		return complain(err)
	}
	args, err := monitor.ParseArgs(argv)
	if err != nil {
		return complain(err)
	}
	return Run(args)
}

// complain is for who runs the program by hand.
func complain(err error) int {
	syscall.Write(2, []byte(monitor.Binary+": "+err.Error()+"\n"))
	return 2
}

const argsMax = 64 << 10 // bytes

// cmdline returns the arguments. Package os would return them too, but it is large.
func cmdline() ([]string, error) {
	// Not from the heap, which would keep it.
	buf, err := syscall.Mmap(-1, 0, argsMax, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fail("read", "/proc/self/cmdline", err)
	}
	defer syscall.Munmap(buf)
	text, err := readFile("/proc/self/cmdline", buf)
	if err != nil {
		return nil, fail("read", "/proc/self/cmdline", err)
	}
	if len(text) == len(buf) {
		return nil, errors.New("the arguments are longer than 64 KiB")
	}
	var argv []string
	from := 0
	for i, c := range text {
		if c == 0 {
			argv = append(argv, string(text[from:i]))
			from = i + 1
		}
	}
	if len(argv) == 0 {
		return nil, errors.New("no arguments")
	}
	return argv[1:], nil
}
