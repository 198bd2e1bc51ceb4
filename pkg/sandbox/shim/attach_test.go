package shim

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
)

// attachable is a monitor that answers an attach request by a reply, descriptors and packets, and leaves.
func attachable(t *testing.T, reply string, fds []int, packets ...string) Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, monitor.PacketMax)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "1 attach ioe" {
			t.Errorf("asked %q, %v", b[:n], err)
		}
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		c.(*net.UnixConn).WriteMsgUnix([]byte(reply), rights, nil)
		for _, p := range packets {
			c.Write([]byte(p))
		}
	}()
	return Client{Socket: path}
}

var all = monitor.Streams{Stdin: true, Stdout: true, Stderr: true}

func TestAttachFrames(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a, err := attachable(t, "1 ok pipe", []int{int(w.Fd())}, "oout", "eerr", "l12", "c", "x").Attach(t.Context(), all)
	w.Close()
	if err != nil || a.Input == nil || a.Terminal {
		t.Fatalf("%+v, %v", a, err)
	}
	defer a.Close()
	for _, want := range []Frame{
		{Kind: 'o', Data: []byte("out")}, {Kind: 'e', Data: []byte("err")}, {Kind: 'l', Lost: 12}, {Kind: 'c'},
	} {
		got, err := a.Next()
		if err != nil || got.Kind != want.Kind || string(got.Data) != string(want.Data) || got.Lost != want.Lost {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := a.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	io.WriteString(a.Input, "in")
	a.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "in" { // an end of file: nobody else holds it
		t.Errorf("the input got %q, %v", b, err)
	}
}

func TestAttachAnswersThatAreErrors(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	one := []int{int(null.Fd())}
	before := descriptors(t)
	for name, c := range map[string]struct {
		reply string
		fds   []int
		is    func(error) bool
	}{
		"an older monitor":     {"1 error request not known", nil, errdefs.IsFailedPrecondition},
		"other version":        {"2 ok none", nil, errdefs.IsInternal},
		"unknown input":        {"1 ok socket", one, errdefs.IsInternal},
		"no descriptor":        {"1 ok pipe", nil, errdefs.IsInternal},
		"one too many":         {"1 ok pipe", append(one, one...), errdefs.IsInternal},
		"one that is not said": {"1 ok none", one, errdefs.IsInternal},
		"refused with one":     {"1 error x", one, errdefs.IsFailedPrecondition},
		"gone":                 {"", nil, errdefs.IsUnavailable},
	} {
		if _, err := attachable(t, c.reply, c.fds).Attach(t.Context(), all); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := descriptors(t); after > before+8 { // the listeners are open until the test's end
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func TestAttachBreaksOff(t *testing.T) {
	for name, c := range map[string]struct {
		packets []string
		is      func(error) bool
	}{
		"without an end":      {[]string{"oa"}, errdefs.IsUnavailable},
		"an unknown frame":    {[]string{"oa", "?"}, errdefs.IsInternal},
		"a number that isn't": {[]string{"oa", "lx"}, errdefs.IsInternal},
		"too long":            {[]string{"oa", "o" + strings.Repeat("x", monitor.FrameMax+1)}, func(err error) bool { return err == nil || errdefs.IsUnavailable(err) }},
	} {
		a, err := attachable(t, "1 ok none", nil, c.packets...).Attach(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Next(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.Next(); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		a.Interrupt()
		if _, err := a.Next(); err == nil {
			t.Errorf("%s: goes on", name)
		}
		a.Close()
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
