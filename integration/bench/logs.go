package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	logRounds = 7
	logBytes  = 256 << 20
)

// flow is one log: what the monitor did from the first line's time to the last's.
type flow struct{ rate, cpu float64 } // MB/s; CPU seconds of the monitor per GB

type flows struct{ rate, cpu series }

func (s *flows) add(f flow) { s.rate, s.cpu = append(s.rate, f.rate), append(s.cpu, f.cpu) }

// measureLogs has the same program write the same lines to our monitor and to conmon, each in its container, into the
// same file system.
func (b *bench) measureLogs(ctx context.Context) error {
	image, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	p, err := b.newPod(ctx)
	if err != nil {
		return err
	}
	model, err := b.startContainer(ctx, p, "model", image, "start")
	if err != nil {
		return err
	}
	peer, err := b.newBundle(p, model, "conmon")
	if err != nil {
		return err
	}
	b.report.section(fmt.Sprintf("logs: %d MiB through our monitor / through conmon", logBytes>>20))
	for _, line := range []int{100, 1024} {
		if err := b.compareLogs(ctx, p, image, peer, line); err != nil {
			return err
		}
	}
	return errors.Join(peer.close(), b.removeContainer(ctx, p, "model", model), b.removePod(ctx, p))
}

func (b *bench) compareLogs(ctx context.Context, p pod, image string, peer *bundle, line int) error {
	var ours, theirs flows
	for round := range logRounds + 1 {
		a, err := b.logOurs(ctx, p, image, line)
		if err != nil {
			return err
		}
		z, err := b.logConmon(peer, line)
		if err != nil {
			return fmt.Errorf("conmon: %w", err)
		}
		if round > 0 {
			ours.add(a)
			theirs.add(z)
		}
	}
	r, name := b.report, fmt.Sprintf("lines of %d B: ", line)
	r.figure(name+"ours", "MB/s", ours.rate)
	r.figure(name+"conmon", "MB/s", theirs.rate)
	r.figure(name+"ours, CPU of the monitor", "s/GB", ours.cpu)
	r.figure(name+"conmon, CPU", "s/GB", theirs.cpu)
	r.gate(name+"ratio, MB/s", ours.rate.over(theirs.rate), atLeast, 1.5)
	r.gate(name+"ratio, CPU", ours.cpu.over(theirs.cpu), atMost, 0.6)
	return nil
}

func writes(line int) []string { return []string{"write", strconv.Itoa(logBytes), strconv.Itoa(line)} }

func (b *bench) logOurs(ctx context.Context, p pod, image string, line int) (flow, error) {
	id, err := b.startContainer(ctx, p, "log", image, writes(line)...)
	if err != nil {
		return flow{}, err
	}
	var lock struct {
		Shim spec.Process
	}
	if err := readJSON(filepath.Join(b.record(p, id), spec.StatusFile), &lock); err != nil {
		return flow{}, err
	}
	f, err := follow(b.logOf(p, "log"), lock.Shim.PID)
	if err != nil {
		return flow{}, err
	}
	return f, b.removeContainer(ctx, p, "log", id)
}

// logConmon drives conmon as CRI-O does: it creates the container through runc, and then runc starts it.
func (b *bench) logConmon(peer *bundle, line int) (flow, error) {
	if err := errors.Join(peer.renew(), peer.write(writes(line)...)); err != nil {
		return flow{}, err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return flow{}, err
	}
	in := func(name string) string { return filepath.Join(peer.dir, name) }
	for _, d := range []string{"exits", "persist", "sockets"} {
		if err := os.MkdirAll(in(d), 0o700); err != nil {
			return flow{}, err
		}
	}
	var out []byte
	err = b.inGroup("peer", func() (err error) {
		out, err = exec.Command("conmon", "--cid", peer.id, "--cuuid", peer.id, "--name", peer.id, "--bundle", peer.dir,
			"--runtime", runc, "--runtime-arg", "--root="+peer.state, "--log-path", in("log"), "--container-pidfile", in("pid"),
			"--conmon-pidfile", in("conmon.pid"), "--exit-dir", in("exits"), "--persist-dir", in("persist"),
			"--socket-dir-path", in("sockets"), "--log-level", "error", "--no-sync-log").CombinedOutput()
		return err
	})
	if err != nil {
		return flow{}, fmt.Errorf("%w: %s", err, out)
	}
	if err := until("a created container", func() bool { return exists(in("pid")) && exists(in("conmon.pid")) }); err != nil {
		return flow{}, err
	}
	text, err := os.ReadFile(in("conmon.pid"))
	if err != nil {
		return flow{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return flow{}, err
	}
	if err := until("a started container", func() bool { return peer.runc("start", peer.id).Run() == nil }); err != nil {
		return flow{}, err
	}
	f, err := follow(in("log"), pid)
	if err != nil {
		return flow{}, err
	}
	if err := peer.runc("delete", "--force", peer.id).Run(); err != nil {
		return flow{}, err
	}
	// Without its own sync at the end, which is after what is measured, and would write back the next round too.
	err = until("conmon has left", func() bool { return unix.Kill(pid, 0) != nil })
	return f, errors.Join(err, os.Remove(in("log")), os.Remove(in("pid")), os.Remove(in("conmon.pid")))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// follow waits for the log's last line, and reads its times and what the monitor has used since its start: a start's
// own part of that is some milliseconds.
func follow(path string, monitor int) (flow, error) {
	f, err := open(path)
	if err != nil {
		return flow{}, err
	}
	defer f.Close()
	var last []byte
	if err := until("the last line in "+path, func() bool {
		last, err = lastLine(f)
		return err != nil || bytes.HasSuffix(last, []byte(" END"))
	}); err != nil {
		return flow{}, err
	}
	if err != nil {
		return flow{}, err
	}
	used, err := processCPU(monitor)
	if err != nil {
		return flow{}, err
	}
	head := make([]byte, 64)
	if _, err := f.ReadAt(head, 0); err != nil {
		return flow{}, err
	}
	begin, err := timeOf(head)
	if err != nil {
		return flow{}, err
	}
	end, err := timeOf(last)
	if err != nil {
		return flow{}, err
	}
	return flow{rate: logBytes / 1e6 / end.Sub(begin).Seconds(), cpu: used.Seconds() / (logBytes / 1e9)}, nil
}

func open(path string) (f *os.File, err error) {
	if e := until("the log "+path, func() bool { f, err = os.Open(path); return err == nil }); e != nil {
		return nil, err
	}
	return f, nil
}

// lastLine is the end of the file without its newline; nothing where that is in the middle of a line.
func lastLine(f *os.File) ([]byte, error) {
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(size, 256))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	tail, whole := bytes.CutSuffix(tail, []byte("\n"))
	if !whole {
		return nil, nil
	}
	return tail[bytes.LastIndexByte(tail, '\n')+1:], nil
}

func timeOf(entry []byte) (time.Time, error) {
	stamp, _, _ := bytes.Cut(entry, []byte(" "))
	return time.Parse(time.RFC3339Nano, string(stamp))
}
