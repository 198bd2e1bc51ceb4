package cri_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/cri"
)

// dialEnv makes this test binary connect to a socket and print what it reads: it runs as another user.
const dialEnv = "CRI_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialEnv); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Stdout.WriteString("dial: " + err.Error())
			os.Exit(0)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b, err := io.ReadAll(c)
		if err != nil {
			b = append(b, err.Error()...)
		}
		os.Stdout.Write(b)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dialAs connects as that user, through a directory that is open for the test alone.
func dialAs(t *testing.T, path string, uid uint32) string {
	t.Helper()
	self := filepath.Join(filepath.Dir(path), "test")
	if err := os.Link("/proc/self/exe", self); err != nil {
		b, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(self, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self)
	cmd.Env = []string{dialEnv + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestOnlyAllowedUsersConnect(t *testing.T) {
	for _, tc := range []struct {
		allowed []uint32
		uid     uint32
		want    string
	}{
		{[]uint32{0}, 0, "hello"},
		{[]uint32{0}, 4711, ""},
		{[]uint32{0, 4711}, 4711, "hello"},
		{nil, 0, ""},
	} {
		dir, log := shortDir(t), &lockedBuffer{}
		path := filepath.Join(dir, "s")
		l, err := cri.Listen(path, tc.allowed, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info, err)
		}
		// The socket's mode keeps others off already: open all for the test, so that the check at accept is what is tested.
		for p, mode := range map[string]os.FileMode{dir: 0o755, path: 0o666} {
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		if got := dialAs(t, path, tc.uid); got != tc.want {
			t.Errorf("allowed %v, user %d: read %q, want %q", tc.allowed, tc.uid, got, tc.want)
		}
		if refused := strings.Contains(log.String(), "is refused"); refused != (tc.want == "") {
			t.Errorf("allowed %v, user %d: log is %q", tc.allowed, tc.uid, log.String())
		}
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket stays after Close: %v", err)
		}
	}
}

func TestListenOnWhatIsThere(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	t.Run("a stale socket is replaced", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "s")
		for _, p := range []string{path, path + ".new"} {
			old, err := net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			old.SetUnlinkOnClose(false)
			old.Close()
		}
		l, err := cri.Listen(path, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
	t.Run("one that answers refuses", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "s")
		l, err := cri.Listen(path, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := cri.Listen(path, nil, log); !errors.Is(err, errdefs.ErrAlreadyExists) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a file refuses and stays", func(t *testing.T) {
		path := filepath.Join(shortDir(t), "s")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cri.Listen(path, nil, log); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("error is %v", err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("the file is %q", b)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		if _, err := cri.Listen("/nonexistent/s", nil, log); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("too long", func(t *testing.T) {
		if _, err := cri.Listen("/tmp/"+strings.Repeat("x", 120), nil, log); err == nil {
			t.Error("no error")
		}
	})
}
