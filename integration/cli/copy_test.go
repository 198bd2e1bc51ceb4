package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

func refused(t *testing.T, what string, got daemontest.Output, says string) {
	t.Helper()
	if got.Code != 125 || !strings.Contains(got.Stderr, says) {
		t.Errorf("%s: %+v; want 125 and %q", what, got, says)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s: %q, %v; want %q", path, b, err, text)
	}
}

func TestCopy(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	if got := d.CLI("run", "-d", "--name", "one", d.Image, "sh", "-c", daemontest.Sleep); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	host := t.TempDir()
	write(t, host+"/src/a", "text", 0o751)
	write(t, host+"/src/sub/b", strings.Repeat("x", 300_000), 0o600)
	os.Symlink("/etc/passwd", host+"/src/link")
	then := time.Unix(1_500_000_000, 0)
	os.Chtimes(host+"/src/a", then, then)

	want(t, "a directory in", d.CLI("cp", host+"/src", "one:/data"), 0, "")
	want(t, "what came", d.CLI("exec", "one", "sh", "-c",
		"stat -c '%a %u %g %Y' /data/src/a; readlink /data/src/link; wc -c </data/src/sub/b"), 0, "751 0 0 1500000000\n/etc/passwd\n300000")
	want(t, "a file in, renamed", d.CLI("cp", host+"/src/a", "one:tmp/new"), 0, "")
	want(t, "a file in, over another", d.CLI("cp", host+"/src/a", "one:/data/seed"), 0, "")
	want(t, "what came", d.CLI("exec", "one", "cat", "/tmp/new", "/data/seed"), 0, "texttext")
	want(t, "a directory out", d.CLI("cp", "one:/data/src", host+"/out"), 0, "")
	want(t, "contents out", d.CLI("cp", "one:/data/src/.", host+"/out"), 0, "")
	holds(t, host+"/out/a", "text")
	holds(t, host+"/out/sub/b", strings.Repeat("x", 300_000))
	if target, err := os.Readlink(host + "/out/link"); target != "/etc/passwd" {
		t.Errorf("link to %q, %v", target, err)
	}
	if info, err := os.Stat(host + "/out/a"); err != nil || info.Mode() != 0o751 || !info.ModTime().Equal(then) {
		t.Errorf("%v, %v", info, err)
	}

	refused(t, "no such file inside", d.CLI("cp", "one:/no/such", host), "no such file")
	refused(t, "no such file here", d.CLI("cp", host+"/no/such", "one:/tmp"), "no such file")
	refused(t, "no such directory inside", d.CLI("cp", host+"/src/a", "one:/no/such/x"), "no such file")
	refused(t, "a directory over a file", d.CLI("cp", host+"/src", "one:/etc/passwd"), "is a file")
	refused(t, "a directory over a file here", d.CLI("cp", "one:/data", host+"/src/a"), "is a file")
	refused(t, "no container", d.CLI("cp", host+"/src", "two:/tmp"), "two")
	refused(t, "two paths here", d.CLI("cp", host, host), "CONTAINER:PATH")
	refused(t, "two containers", d.CLI("cp", "one:/a", "one:/b"), "CONTAINER:PATH")
	refused(t, "an archive", d.CLI("cp", "-", "one:/b"), "no archives")

	// Links of the container: on the way they are followed there, as programs there would; nothing of the host is met.
	write(t, host+"/victim/v", "v", 0o644)
	want(t, "links", d.CLI("exec", "one", "sh", "-c", "mkdir -p /t && ln -s "+host+"/victim /t/out && ln -s /no"+host+" /t/secret && echo evil >/t/f && chmod 4755 /t/f"), 0, "")
	refused(t, "in, through a link to a path of the host", d.CLI("cp", host+"/src/a", "one:/t/out/v"), "no such file")
	refused(t, "out, through a link to a path of the host", d.CLI("cp", "one:/t/out/v", host+"/stolen"), "no such file")
	want(t, "links out", d.CLI("cp", "one:/t", host+"/t"), 0, "")
	refused(t, "a directory over a link that a copy brought", d.CLI("cp", "one:/data/src", host+"/t/secret"), "is no directory")
	holds(t, host+"/victim/v", "v")
	if info, err := os.Stat(host + "/t/f"); err != nil || info.Mode() != 0o755 {
		t.Errorf("a set-user-id file came as %v, %v", info, err)
	}
	got := d.CLI("cp", "one:/", host+"/all")
	if got.Code != 0 || !strings.Contains(got.Stderr, "/proc: a file system of the kernel") {
		t.Errorf("all of it: %+v", got)
	}
	holds(t, host+"/all/data/seed", "text")
	want(t, "rm", d.CLI("rm", "-f", "one"), 0, "one")
	refused(t, "a container that is gone", d.CLI("cp", host+"/src", "one:/tmp"), "one")
	daemontest.Same(t, before, d.Snapshot())
}

// TestCopyBrokenOff: after Ctrl-C nothing of the copier is left.
func TestCopyBrokenOff(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	before := d.Snapshot()
	if got := d.CLI("run", "-d", "--name", "one", d.Image, "sh", "-c", daemontest.Sleep); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	want(t, "a long file", d.CLI("exec", "one", "truncate", "-s", "64G", "/tmp/long"), 0, "")
	to := filepath.Join(t.TempDir(), "long")
	cmd := exec.Command(filepath.Join(daemontest.Bin(t), "runtimed"), d.CLIArgs("cp", "one:/tmp/long", to)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if info, err := os.Stat(to); err != nil || info.Size() == 0 {
			return fmt.Errorf("nothing came: %v", err)
		}
		return nil
	})
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("cp ended with %d", code)
	}
	daemontest.Eventually(t, daemontest.Patience, func() error {
		got := d.CLI("exec", "one", "ps")
		if got.Code != 0 || strings.Contains(got.Stdout, "/proc/self/fd/3") {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	want(t, "rm", d.CLI("rm", "-f", "one"), 0, "one")
	daemontest.Same(t, before, d.Snapshot())
}

// TestCopyNeedsNoImage: an image without a shell or tar, another user than root, and a root that is read-only.
func TestCopyNeedsNoImage(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	busybox := daemontest.Busybox(t).Layers[0].Files[1].Body
	d.Registry.MustPush(t, "bare:1", registrytest.Image{
		Config: registrytest.Config{Cmd: []string{"/sleep", "4321"}, User: "1000"},
		Layers: []registrytest.Layer{{Files: []registrytest.File{{Name: "sleep", Mode: 0o755, Body: busybox}}}},
	})
	image := d.Registry.Ref("bare:1")
	if got := d.CLI("pull", image); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	before := d.Snapshot()
	host := t.TempDir()
	write(t, host+"/a", "text", 0o644)
	for _, flags := range [][]string{{"--name", "bare"}, {"--name", "fixed", "--read-only"}} {
		if got := d.CLI(append(append([]string{"run", "-d"}, flags...), image)...); got.Code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	want(t, "in", d.CLI("cp", host+"/a", "bare:/"), 0, "")
	want(t, "out", d.CLI("cp", "bare:/a", host+"/b"), 0, "")
	holds(t, host+"/b", "text")
	refused(t, "in, where all is read-only", d.CLI("cp", host+"/a", "fixed:/"), "read-only file system")
	want(t, "rm", d.CLI("rm", "-f", "bare"), 0, "bare")
	want(t, "rm", d.CLI("rm", "-f", "fixed"), 0, "fixed")
	daemontest.Same(t, before, d.Snapshot())
}
