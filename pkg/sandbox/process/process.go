// Package process identifies, watches and signals processes that this daemon may not have started.
//
// It owns the identity of a process (pid, start ticks, boot) and its pidfd. It never waits for a child: reaping is its
// parent's. A Handle lives from Open to Close and stays with the same process whatever happens to its pid.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// ErrGone: the process that was named has ended, whoever has its pid now.
var ErrGone = errors.New("the process has ended")

// BootID is the id of this boot of the kernel (proc(5), /proc/sys/kernel/random/boot_id).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Identify names the process that has pid now.
func Identify(pid int, bootID string) (spec.Process, error) {
	ticks, err := startTicks(pid)
	if err != nil {
		return spec.Process{}, err
	}
	return spec.Process{PID: pid, StartTicks: ticks, BootID: bootID}, nil
}

// startTicks is field 22 of /proc/<pid>/stat (proc_pid_stat(5)), read behind the last ')': the command name before it
// may hold anything.
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return 0, ErrGone
		}
		return 0, err
	}
	return parseStartTicks(b)
}

func parseStartTicks(stat []byte) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("stat without a command name")
	}
	const afterName = 22 - 3 // the state, field 3, comes first behind the name
	fields := bytes.Fields(stat[i+1:])
	if len(fields) <= afterName {
		return 0, fmt.Errorf("stat with %d fields behind the command name", len(fields))
	}
	return strconv.ParseUint(string(fields[afterName]), 10, 64)
}

// Handle is an open pidfd (pidfd_open(2), Linux 5.3).
type Handle struct {
	file *os.File
	pid  int
}

// Open returns a handle on exactly the process that p names; ErrGone where it has ended. A StartTicks of 0 accepts
// whichever process has the pid.
func Open(p spec.Process) (*Handle, error) {
	if p.PID <= 0 {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", p.PID, err)
	}
	h := &Handle{file: os.NewFile(uintptr(fd), "pidfd"), pid: p.PID}
	if p.StartTicks == 0 {
		return h, nil
	}
	// Checked behind the open: while the pidfd is held, the pid is not given to another process unnoticed.
	ticks, err := startTicks(p.PID)
	if err == nil && ticks != p.StartTicks {
		err = ErrGone
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// PID of the process.
func (h *Handle) PID() int { return h.pid }

// Close gives the descriptor back.
func (h *Handle) Close() error { return h.file.Close() }

// Signal sends sig (pidfd_send_signal(2)); ErrGone when the process has ended.
func (h *Handle) Signal(sig unix.Signal) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	return sent
}

// Wait returns nil when the process has ended (it may still be a zombie of its parent), or ctx's error. It parks a
// goroutine, not a thread. At most one Wait of a handle runs at a time.
func (h *Handle) Wait(ctx context.Context) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			h.file.SetReadDeadline(time.Time{})
		}
	}()
	err = conn.Read(func(fd uintptr) bool { return ended(int(fd)) })
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Ended tells, without waiting, whether the process has ended.
func (h *Handle) Ended() bool {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return false
	}
	over := false
	conn.Control(func(fd uintptr) { over = ended(int(fd)) })
	return over
}

func ended(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return n > 0 && p[0].Revents&unix.POLLIN != 0
		}
	}
}
