package supervise_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/shim"
)

var both = monitor.Streams{Stdout: true, Stderr: true}

func (b *box) attach(want monitor.Streams) *shim.Attachment {
	b.t.Helper()
	a, err := shim.Client{Socket: b.socket}.Attach(b.t.Context(), want)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { a.Close() })
	return a
}

// heard is what an attachment brought until its end.
type heard struct {
	stdout, stderr bytes.Buffer
	lost           uint64
	closed         bool
	err            error
}

func listenTo(a *shim.Attachment) *heard {
	h := &heard{}
	for {
		f, err := a.Next()
		if err != nil {
			h.err = err
			return h
		}
		switch f.Kind {
		case monitor.FrameStdout:
			h.stdout.Write(f.Data)
		case monitor.FrameStderr:
			h.stderr.Write(f.Data)
		case monitor.FrameLost:
			h.lost += f.Lost
		case monitor.FrameClosed:
			h.closed = true
		}
	}
}

// whole: each byte was brought, or is known to be missing.
func (h *heard) whole(size int) bool {
	return uint64(h.stdout.Len()+h.stderr.Len())+h.lost == uint64(size) && errors.Is(h.err, io.EOF)
}

func inBackground(a *shim.Attachment) <-chan *heard {
	c := make(chan *heard, 1)
	go func() { c <- listenTo(a) }()
	return c
}

// descriptors are how many the monitor has.
func (b *box) descriptors() int {
	b.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	return len(all)
}

func TestAttach(t *testing.T) {
	b := start(t, plan{Script: "read x; echo out; echo err >&2; read y; echo $x $y; exit 3", Stdin: true})
	first, second := b.attach(monitor.Streams{Stdin: true, Stdout: true, Stderr: true}), b.attach(both)
	alone := b.attach(monitor.Streams{Stderr: true})
	if second.Input != nil || first.Input == nil || first.Terminal {
		t.Fatalf("inputs %v, %v, terminal %v", first.Input, second.Input, first.Terminal)
	}
	a1, a2, a3 := inBackground(first), inBackground(second), inBackground(alone)
	io.WriteString(first.Input, "one\n")
	late := b.attach(monitor.Streams{Stdin: true, Stdout: true}) // the input is everybody's, one after another
	a4 := inBackground(late)
	io.WriteString(late.Input, "two\n")
	for name, c := range map[string]struct {
		got         <-chan *heard
		out, errors string
	}{"first": {a1, "out\none two\n", "err\n"}, "second": {a2, "out\none two\n", "err\n"}, "stderr alone": {a3, "", "err\n"}} {
		h := <-c.got
		if h.stdout.String() != c.out || h.stderr.String() != c.errors || h.lost > 0 || h.closed || !errors.Is(h.err, io.EOF) {
			t.Errorf("%s: %q, %q, %d lost, closed %v, %v", name, &h.stdout, &h.stderr, h.lost, h.closed, h.err)
		}
	}
	if h := <-a4; !strings.HasSuffix(h.stdout.String(), "one two\n") {
		t.Errorf("late: %q", &h.stdout)
	}
	if _, err := os.Stat(b.dir + "/exit.json"); err != nil {
		t.Errorf("the end is said before the exit is stated: %v", err)
	}
	if e := b.wait(); e.Code != 3 {
		t.Errorf("%+v", e)
	}
}

// With stdin_once the first session's end of input is the container's; without, it is nobody's.
func TestAttachStdinOnce(t *testing.T) {
	p := plan{Script: "cat; echo over", Stdin: true}
	p.Args.StdinOnce = true
	b := start(t, p)
	in := monitor.Streams{Stdin: true, Stdout: true}
	b.attach(in).Close() // without a word: its daemon was killed
	a, other := b.attach(in), b.attach(in)
	io.WriteString(a.Input, "hello\n")
	heardA, heardOther := inBackground(a), inBackground(other)
	a.Input.Close()
	if err := a.InputOver(); err != nil {
		t.Fatal(err)
	}
	// The other one holds the input until it hears of it.
	eventually(t, "no new session gets the input", func() bool {
		late := b.attach(in)
		defer late.Close()
		return late.Input == nil
	})
	other.Input.Close()
	h := <-heardOther
	if !h.closed || h.stdout.String() != "hello\nover\n" {
		t.Errorf("the other: closed %v, %q, %v", h.closed, &h.stdout, h.err)
	}
	if h := <-heardA; h.stdout.String() != "hello\nover\n" || h.closed {
		t.Errorf("the first: %q, closed %v, %v", &h.stdout, h.closed, h.err)
	}
	b.wait()
}

func TestAttachStdinOfMany(t *testing.T) {
	b := start(t, plan{Script: "cat", Stdin: true})
	for range 3 {
		a := b.attach(monitor.Streams{Stdin: true})
		a.Input.Close()
		a.InputOver()
		a.Close()
	}
	a := b.attach(monitor.Streams{Stdin: true, Stdout: true})
	io.WriteString(a.Input, "still read\n")
	if f, err := a.Next(); err != nil || string(f.Data) != "still read\n" {
		t.Errorf("%q, %v", f.Data, err)
	}
}

func TestAttachTerminal(t *testing.T) {
	p := plan{Script: "read x; stty size; echo got $x; read y", TTY: true}
	p.Args.StdinOnce = true
	b := start(t, p)
	b.ask("1 resize 80 24")
	gone := b.attach(monitor.Streams{Stdin: true})
	gone.InputOver()
	gone.Close()
	a := b.attach(monitor.Streams{Stdin: true, Stdout: true, Stderr: true}) // a terminal is never closed
	if a.Input == nil || !a.Terminal {
		t.Fatal("no terminal")
	}
	h := inBackground(a)
	io.WriteString(a.Input, "it\n")
	eventually(t, "an answer", func() bool {
		text, _ := os.ReadFile(b.log)
		return strings.Contains(string(text), "got it")
	})
	io.WriteString(a.Input, "\n")
	if got := <-h; got.stdout.String() != "it\r\n24 80\r\ngot it\r\n\r\n" || got.stderr.Len() > 0 {
		t.Errorf("%q, %q, %v", &got.stdout, &got.stderr, got.err)
	}
}

func TestAttachWithoutAnInput(t *testing.T) {
	b := start(t, plan{Script: "sleep 0.2; echo out"})
	a := b.attach(monitor.Streams{Stdin: true, Stdout: true})
	if a.Input != nil {
		t.Error("an input that is not there")
	}
	none := inBackground(b.attach(monitor.Streams{}))
	if h := listenTo(a); h.stdout.String() != "out\n" || !errors.Is(h.err, io.EOF) {
		t.Errorf("%q, %v", &h.stdout, h.err)
	}
	if h := <-none; h.stdout.Len() > 0 || !errors.Is(h.err, io.EOF) {
		t.Errorf("no stream: %q, %v", &h.stdout, h.err)
	}
}

// Who never reads delays neither the container nor the log nor other attachments, and knows what it has missed.
func TestAttachNeverReads(t *testing.T) {
	const size = 30_000_000
	b := start(t, plan{Script: "read x; yes 0123456789 | head -c " + itoa(size) + "; echo end >&2", Stdin: true})
	var deaf []*shim.Attachment
	for range 10 {
		deaf = append(deaf, b.attach(both))
	}
	a := b.attach(monitor.Streams{Stdin: true, Stdout: true, Stderr: true})
	h := inBackground(a)
	begin := time.Now()
	io.WriteString(a.Input, "\n")
	got := <-h // on a busy machine it may miss something too: that is the kernel's to say, not this test's
	if !got.whole(size+4) || got.stdout.Len()+got.stderr.Len() == 0 {
		t.Errorf("who reads got %d bytes, %d lost, %q, %v", got.stdout.Len(), got.lost, &got.stderr, got.err)
	}
	b.wait()
	t.Logf("%v, %d lost to who reads", time.Since(begin), got.lost)
	if text, err := os.ReadFile(b.log); err != nil || bytes.Count(text, []byte("0123456789\n")) != size/11 {
		t.Errorf("the log lacks lines: %v", err)
	}
	for i, d := range deaf {
		got := listenTo(d) // what the kernel kept
		if got.stdout.Len() == 0 || got.lost == 0 || !got.whole(size+4) {
			t.Errorf("%d: %d bytes, %d lost, %v", i, got.stdout.Len(), got.lost, got.err)
		}
	}
}

// One that has fallen behind is told how much it has missed, and goes on from there.
func TestAttachFallsBehind(t *testing.T) {
	const size = 5_000_000
	b := start(t, plan{Script: "read x; yes 0123456789 | head -c " + itoa(size) + "; echo done > $DIR/done; read x; echo last", Stdin: true})
	a := b.attach(monitor.Streams{Stdin: true, Stdout: true})
	io.WriteString(a.Input, "\n")
	eventually(t, "all is written and read", func() bool {
		_, err := os.Stat(b.dir + "/done")
		return err == nil && strings.HasPrefix(b.ask("1 stats"), "1 ok read "+itoa(size)+" ")
	})
	before, lost := 0, uint64(0)
	for lost == 0 {
		f, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		before, lost = before+len(f.Data), f.Lost
	}
	io.WriteString(a.Input, "\n")
	got := listenTo(a)
	got.lost += lost
	if uint64(before+got.stdout.Len())+got.lost != size+5 || !bytes.HasSuffix(got.stdout.Bytes(), []byte("last\n")) || !errors.Is(got.err, io.EOF) {
		t.Errorf("%d bytes, %d lost, %v", got.stdout.Len(), got.lost, got.err)
	}
}

// A reader that is slow, but reads, misses nothing: the container waits for it as for any pipe. A busy machine may hold
// any reader up for longer than that, so one try in ten has to show it; none may lose count.
func TestAttachSlowReader(t *testing.T) {
	const size = 10_000_000
	for range 10 {
		b := start(t, plan{Script: "read x; yes 0123456789 | head -c " + itoa(size), Stdin: true})
		a := b.attach(monitor.Streams{Stdin: true, Stdout: true})
		io.WriteString(a.Input, "\n")
		total, lost := 0, 0
		for n := 0; ; n++ {
			f, err := a.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			total, lost = total+len(f.Data), lost+int(f.Lost)
			if n%16 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if total+lost != size {
			t.Errorf("%d bytes, %d lost", total, lost)
		}
		if lost == 0 {
			return
		}
	}
	t.Error("it missed something each time")
}

// There is an end of how many may be attached; whoever asks something else has a place beside them.
func TestAttachPlaces(t *testing.T) {
	const places = 64 // attachMax of the monitor
	b := start(t, plan{Script: "read x", Stdin: true})
	before := b.descriptors()
	var all []*shim.Attachment
	for range places {
		all = append(all, b.attach(monitor.Streams{Stdin: true, Stdout: true, Stderr: true}))
	}
	_, err := shim.Client{Socket: b.socket}.Attach(t.Context(), both)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "attached already") {
		t.Errorf("one more: %v", err)
	}
	if got := b.ask("1 ping"); got != "1 ok" {
		t.Errorf("%q", got)
	}
	for _, a := range all {
		a.Close()
	}
	eventually(t, "its descriptors are closed", func() bool { return b.descriptors() == before })
	b.attach(both)
}

// What is not in the protocol ends the connection, and nothing else.
func TestAttachMalformed(t *testing.T) {
	b := start(t, plan{Script: "read x", Stdin: true})
	before := b.descriptors()
	for _, p := range []string{"x", "cc", "1 ping", strings.Repeat("c", 5000)} {
		c, err := net.Dial("unixpacket", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		if got := talk(t, c, "1 attach oe"); got != "1 ok none" {
			t.Errorf("%q", got)
		}
		c.Write([]byte(p))
		if n, err := c.Read(make([]byte, 10)); err == nil {
			t.Errorf("%.10q: %d bytes", p, n)
		}
		c.Close()
	}
	eventually(t, "its descriptors are closed", func() bool { return b.descriptors() == before })
	if got := b.ask("1 ping"); got != "1 ok" {
		t.Errorf("%q", got)
	}
}

// Sessions that break off at any moment leave nothing.
func TestAttachAborted(t *testing.T) {
	b := start(t, plan{Script: "while :; do echo line; sleep 0.01; done", Stdin: true})
	before := b.descriptors()
	for i := range 300 {
		a := b.attach(monitor.Streams{Stdin: true, Stdout: true, Stderr: true})
		if i%3 == 0 {
			a.Next()
		}
		if i%5 == 0 {
			a.InputOver()
		}
		a.Close()
	}
	eventually(t, "its descriptors are closed", func() bool { return b.descriptors() == before })
}
