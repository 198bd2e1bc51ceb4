package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is a writer that a test can look into.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// follower is a Read that follows.
type follower struct {
	t      *testing.T
	path   string
	out    sink
	ended  chan struct{}
	result chan error
	cancel context.CancelFunc
}

func follow(t *testing.T, path string, tail int) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{t: t, path: path, ended: make(chan struct{}), result: make(chan error, 1), cancel: cancel}
	t.Cleanup(cancel)
	go func() {
		f.result <- Read(ctx, Options{Path: path, Tail: tail, Follow: true, Ended: f.ended, Stdout: &f.out})
	}()
	return f
}

func (f *follower) sees(want string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); f.out.String() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("got %.200q, want %.200q", f.out.String(), want)
		}
	}
}

func (f *follower) end(want string) {
	f.t.Helper()
	close(f.ended)
	select {
	case err := <-f.result:
		if err != nil || f.out.String() != want {
			f.t.Errorf("got %q, %v; want %q", f.out.String(), err, want)
		}
	case <-time.After(20 * time.Second):
		f.t.Fatal("does not end")
	}
}

func appendTo(t *testing.T, path, s string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	path := write(t, text("o F old", "o F a"))
	f := follow(t, path, 1)
	f.sees("a\n")
	appendTo(t, path, text("o F b")[:10])
	appendTo(t, path, text("o F b")[10:])
	f.sees("a\nb\n")
	appendTo(t, path, text("o P prompt"))
	f.sees("a\nb\nprompt")
	appendTo(t, path, text("o F ed", "o F c"))
	f.sees("a\nb\nprompted\nc\n")
	f.end("a\nb\nprompted\nc\n")
}

func TestFollowBeforeThereIsALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	f := follow(t, path, All)
	appendTo(t, path, text("o F a"))
	f.sees("a\n")
	f.end("a\n")
	f = follow(t, path+".never", All)
	f.end("")
}

// What is written before the end is told is read, and a torn last line too.
func TestFollowReadsAllAtTheEnd(t *testing.T) {
	for range 50 {
		path := write(t, "")
		f := follow(t, path, All)
		appendTo(t, path, text("o F a", "o P b")+strings.TrimSuffix(text("o F c"), "\n"))
		f.end("a\nbc\n")
	}
}

func TestFollowIsCancelled(t *testing.T) {
	f := follow(t, write(t, text("o F a")), All)
	f.sees("a\n")
	f.cancel()
	if err := <-f.result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFollowTruncated(t *testing.T) {
	path := write(t, text("o F first", "o F second"))
	f := follow(t, path, All)
	f.sees("first\nsecond\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, text("o F b"))
	f.sees("first\nsecond\nb\n")
	f.end("first\nsecond\nb\n")
}

// A line may begin in one file and end in the next, and the reader may be several rotations late.
func TestFollowAcrossRotation(t *testing.T) {
	path := write(t, text("o F 0"))
	f := follow(t, path, All)
	f.sees("0\n")
	want := "0\n"
	for i := range 300 {
		appendTo(t, path, text(fmt.Sprintf("o P %d begins", i)))
		if err := os.Rename(path, fmt.Sprintf("%s.20260101-%06d", path, i)); err != nil {
			t.Fatal(err)
		}
		appendTo(t, path, text(fmt.Sprintf("o F , ends %d", i)))
		want += fmt.Sprintf("%d begins, ends %d\n", i, i)
	}
	f.sees(want)
	for i := range 300 { // compressed ones are no log
		os.Remove(fmt.Sprintf("%s.20260101-%06d", path, i))
	}
	if err := os.WriteFile(path+".20260101-000299.gz", []byte("\x1f\x8b"), 0o600); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, text("o F last"))
	f.end(want + "last\n")
}

// The container may end between the rename of its log and the reopening.
func TestFollowEndsInRotation(t *testing.T) {
	path := write(t, text("o F a"))
	f := follow(t, path, All)
	f.sees("a\n")
	for i, l := range []string{"o F b", "o F c"} {
		appendTo(t, path, text(l))
		if err := os.Rename(path, fmt.Sprintf("%s.20260101-%06d", path, i)); err != nil {
			t.Fatal(err)
		}
	}
	f.end("a\nb\nc\n")
}

// A container that is removed when it ends takes its log's directory along: what was written is read all the same.
func TestFollowOutlivesItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "0.log")
	appendTo(t, path, text("o F a"))
	opened, ended, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var out sink
	go func() {
		result <- Read(context.Background(), Options{
			Path: path, Tail: All, Follow: true, Opened: func() { close(opened) }, Ended: ended, Stdout: &out,
		})
	}()
	<-opened
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	f.WriteString(text("o F b"))
	close(ended)
	select {
	case err := <-result:
		if err != nil || out.String() != "a\nb\n" {
			t.Errorf("%q, %v", out.String(), err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}
