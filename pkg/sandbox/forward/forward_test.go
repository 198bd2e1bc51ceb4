package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// netns is a network namespace of the test's own, with its loopback up, and runs functions in it.
type netns struct {
	path string
	do   chan func()
}

func newNetns(t *testing.T) *netns {
	t.Helper()
	n := &netns{do: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		n.path = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		ready <- err
		for f := range n.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.do) })
	return n
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// listen says a word to who connects.
func (n *netns) listen(t *testing.T, network, address, word string) uint16 {
	t.Helper()
	fd := make(chan int)
	n.do <- func() { // the socket alone has to be made there
		s, err := unix.Socket(map[string]int{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6}[network], unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Error(err)
		}
		fd <- s
	}
	f := os.NewFile(uintptr(<-fd), "listener")
	defer f.Close()
	var at unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if network == "tcp6" {
		at = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
		if err := unix.SetsockoptInt(int(f.Fd()), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Bind(int(f.Fd()), at), unix.Listen(int(f.Fd()), 8)); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, word)
			c.Close()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestDial(t *testing.T) {
	n := newNetns(t)
	v4, v6 := n.listen(t, "tcp4", "127.0.0.1", "four"), n.listen(t, "tcp6", "::1", "six")
	for _, c := range []struct {
		port uint16
		want string
	}{{v4, "four\n"}, {v6, "six\n"}} {
		conn, err := Dialer{}.Dial(t.Context(), n.path, c.port)
		if err != nil {
			t.Fatal(err)
		}
		got, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || got != c.want {
			t.Errorf("got %q, %v", got, err)
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Error("it cannot end one direction")
		}
		conn.Close()
	}
	// Another namespace, ours, has nobody there: an answer would be the node's.
	if conn, err := (Dialer{}).Dial(t.Context(), "", unusedPort(t)); err == nil {
		t.Errorf("connected to %v", conn.RemoteAddr())
	}
}

func TestDialTheNodesOwn(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := Dialer{}.Dial(t.Context(), "", uint16(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestDialRefused(t *testing.T) {
	n := newNetns(t)
	_, err := Dialer{}.Dial(t.Context(), n.path, 81)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := (Dialer{}).Dial(t.Context(), t.TempDir()+"/none", 81); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no namespace: %v", err)
	}
	if _, err := (Dialer{}).Dial(t.Context(), "/proc/self/ns/mnt", 81); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "setns") {
		t.Errorf("another kind of namespace: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Dialer{}).Dial(ctx, n.path, 81); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
}

// A port whose queue is full does not answer: the caller's end of patience ends the wait.
func TestDialNoAnswer(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(at.(*unix.SockaddrInet4).Port)
	for range 8 { // fill its queue
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		conn, err := Dialer{}.Dial(ctx, "", port)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	t.Error("everybody was let in")
}

func unusedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// No thread stays in a pod's namespace, and nothing stays open.
func TestDialLeavesNothing(t *testing.T) {
	n := newNetns(t)
	port := n.listen(t, "tcp4", "127.0.0.1", "x")
	before := descriptors(t)
	for range 200 {
		conn, err := Dialer{}.Dial(t.Context(), n.path, port)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		Dialer{}.Dial(t.Context(), n.path, port+1)
	}
	for deadline := time.Now().Add(10 * time.Second); descriptors(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors, before %d", descriptors(t), before)
		}
	}
	theirs, err := os.Readlink(n.path)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	in := 0
	for _, task := range tasks {
		if ns, _ := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); ns == theirs {
			in++
		}
	}
	if in != 1 { // the test's own
		t.Errorf("%d threads are in the pod's namespace", in)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
