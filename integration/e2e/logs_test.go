package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// content puts the files' entries together: what the program wrote, and how many bytes are marked as lost.
func content(t *testing.T, files ...string) (out []byte, lost int) {
	t.Helper()
	lost = entries(t, func(text []byte) { out = append(out, text...) }, files...)
	return out, lost
}

// entries hands over the bytes of each entry, and adds up the markers of lost bytes.
func entries(t *testing.T, take func([]byte), files ...string) (lost int) {
	t.Helper()
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReaderSize(f, 1<<20)
		for n := 1; ; n++ {
			line, err := r.ReadBytes('\n')
			if len(line) == 0 && err != nil {
				break
			}
			parts := bytes.SplitN(line, []byte(" "), 4)
			if err != nil || len(parts) != 4 || len(parts[2]) != 1 || !bytes.Contains([]byte("FP"), parts[2]) {
				t.Fatalf("%s:%d is no entry: %.100q", path, n, line)
			}
			text := parts[3]
			if rest, ok := bytes.CutPrefix(text, []byte("runtimed: ")); ok && string(parts[1]) == "stderr" {
				count, _, _ := bytes.Cut(rest, []byte(" "))
				k, err := strconv.Atoi(string(count))
				if err != nil {
					t.Fatalf("%s:%d: %q", path, n, line)
				}
				lost += k
				continue
			}
			if parts[2][0] == 'P' {
				text = bytes.TrimSuffix(text, []byte("\n"))
			}
			take(text)
		}
		f.Close()
	}
	return lost
}

// numbered checks that out is probe's numbered lines from 0 to count-1, and nothing else.
func numbered(t *testing.T, out []byte, count, size int) {
	t.Helper()
	if len(out) != count*size {
		t.Errorf("%d bytes are in the log, %d were written", len(out), count*size)
	}
	for i := 0; i*size+size <= len(out) && i < count; i++ {
		if line := out[i*size : (i+1)*size]; string(line[:10]) != fmt.Sprintf("%010d", i) || line[size-1] != '\n' {
			t.Fatalf("line %d is %.40q", i, line)
		}
	}
}

// A thousand rotations of a log that is being written at full rate lose nothing and double nothing.
func TestReopenAtFullRate(t *testing.T) {
	const size, times = 256, 1000
	d := started(t, daemontest.Options{})
	p := d.PodConfig("rotate")
	pod := d.RunPod(p)
	log := filepath.Join(p.LogDirectory, "main.log")
	id := d.RunContainer(pod, p, probing(t, d.ContainerConfig("main", fmt.Sprintf("probe until /stop %d; "+daemontest.Sleep, size))))
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if info, err := os.Stat(log); err != nil || info.Size() == 0 {
			return fmt.Errorf("nothing is written: %v", err)
		}
		return nil
	})
	var parts []string
	begin := time.Now()
	for i := range times {
		parts = append(parts, fmt.Sprintf("%s.%d", log, i))
		if err := os.Rename(log, parts[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Conn().Runtime.ReopenContainerLog(daemontest.Ctx(t), &v1.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			t.Fatalf("reopen %d: %v", i, err)
		}
		if _, err := os.Stat(log); err != nil {
			t.Fatalf("after reopen %d: %v", i, err)
		}
	}
	took := time.Since(begin)
	count := atoi(d.Exec(id, "touch /stop; until test -s /stop; do sleep 0.1; done; cat /stop"))
	if _, err := d.Conn().Runtime.StopContainer(daemontest.Ctx(t), &v1.StopContainerRequest{ContainerId: id, Timeout: 5}); err != nil {
		t.Error(err)
	}
	busy := 0
	for _, part := range parts {
		if info, err := os.Stat(part); err == nil && info.Size() > 0 {
			busy++
		}
	}
	t.Logf("%d reopenings in %v while %d lines were written; %d parts have bytes", times, took.Round(time.Millisecond), count, busy)
	var digits [20]byte
	n, line := 0, []byte(nil)
	lost := entries(t, func(text []byte) {
		if line = append(line, text...); line[len(line)-1] != '\n' {
			return
		}
		if len(line) != size || !bytes.Equal(bytes.TrimLeft(line[:10], "0"), bytes.TrimLeft(strconv.AppendInt(digits[:0], int64(n), 10), "0")) {
			t.Fatalf("line %d is %.40q", n, line)
		}
		n, line = n+1, line[:0]
	}, append(parts, log)...)
	if lost != 0 || n != count || len(line) != 0 {
		t.Errorf("%d lines and %d bytes are in the logs, %d are marked as lost, and %d lines were written", n, len(line), lost, count)
	}
}

// A full disk blocks no container. When there is room again, the log says how much is missing.
func TestLogDiskFull(t *testing.T) {
	d := started(t, daemontest.Options{})
	p := d.PodConfig("full")
	if err := os.MkdirAll(p.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", p.LogDirectory, "tmpfs", 0, "size=4m,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(p.LogDirectory, unix.MNT_DETACH) })
	t.Cleanup(d.RemoveAll)
	if err := os.WriteFile(filepath.Join(p.LogDirectory, "ballast"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const count, size = 20_000, 512
	pod := d.RunPod(p)
	id := d.RunContainer(pod, p, probing(t, d.ContainerConfig("main",
		fmt.Sprintf("probe lines %d %d; touch /written; until test -e /more; do sleep 0.05; done; echo there is room; sleep 2; exit 5", count, size))))
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if o := d.Crictl("exec", "-s", id, "test", "-e", "/written"); o.Code != 0 {
			return fmt.Errorf("the program waits for its log: %s", o.Stderr)
		}
		return nil
	})
	if err := os.Remove(filepath.Join(p.LogDirectory, "ballast")); err != nil {
		t.Fatal(err)
	}
	d.Exec(id, "touch /more")
	if s := d.Ended(id); s.ExitCode != 5 {
		t.Errorf("it ended with %d", s.ExitCode)
	}
	log := filepath.Join(p.LogDirectory, "main.log")
	out, lost := content(t, log)
	last, ok := bytes.CutSuffix(out, []byte("there is room\n"))
	if !ok || lost == 0 {
		t.Errorf("%d bytes, of which %d are marked as lost; the log ends with %.100q", len(out), lost, out[max(0, len(out)-100):])
	}
	if got := len(bytes.TrimRight(last, "\n")) + lost; got < count*size-2 || got > count*size+2 {
		t.Errorf("%d bytes are there and %d are marked as lost: %d together, and %d were written", len(last), lost, len(last)+lost, count*size)
	}
}

// The daemon is not in the path of a log: killed while 100 MB are written, it is missed by no byte.
func TestKilledDaemonLosesNoLog(t *testing.T) {
	const count, size = 100_000, 1024
	d := started(t, daemontest.Options{})
	p := d.PodConfig("killed")
	pod := d.RunPod(p)
	log := filepath.Join(p.LogDirectory, "main.log")
	id := d.RunContainer(pod, p, probing(t, d.ContainerConfig("main", fmt.Sprintf("probe lines %d %d; exit 6", count, size))))
	for n := 0; n < 3; n++ {
		d.Kill9()
		d.Restart()
	}
	if s := d.Ended(id); s.ExitCode != 6 || s.Reason != "Error" {
		t.Errorf("it ended with %d, %s", s.ExitCode, s.Reason)
	}
	out, lost := content(t, log)
	numbered(t, out, count, size)
	if lost != 0 {
		t.Errorf("%d bytes are marked as lost", lost)
	}
}

// Long lines are cut at 16 KiB, an unended one stays a part, and the two streams are told apart.
func TestLogForm(t *testing.T) {
	d := started(t, daemontest.Options{})
	p := d.PodConfig("form")
	pod := d.RunPod(p)
	id := d.RunContainer(pod, p, d.ContainerConfig("main", "head -c 20000 /dev/zero | tr '\\0' a; echo; echo to stderr >&2; sleep 0.2; printf unended"))
	d.Ended(id)
	b, err := os.ReadFile(filepath.Join(p.LogDirectory, "main.log"))
	if err != nil {
		t.Fatal(err)
	}
	var form []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			t.Error(err)
		}
		form = append(form, fmt.Sprint(f[1], " ", f[2], " ", len(f[3])))
	}
	if got := strings.Join(form, ", "); got != "stdout P 16384, stdout F 3616, stderr F 9, stdout P 7" {
		if got != "stderr F 9, stdout P 16384, stdout F 3616, stdout P 7" {
			t.Errorf("%s", got)
		}
	}
}
