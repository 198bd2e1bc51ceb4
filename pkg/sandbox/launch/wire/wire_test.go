package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		in      string
		ready   bool
		failure string
		fails   bool
	}{
		{"ready\n", true, "", false},
		{"error: no such file\n", false, "no such file", false},
		{"error: first\nerror: second\n", false, "first", false},
		{"", false, "", true},
		{"ready", false, "", true},
		{"ready\nready\n", false, "", true},
		{"ready\nerror: late\n", false, "", true},
		{"error: torn", false, "", true},
		{"error: \n", false, "", true},
		{"errors: x\n", false, "", true},
		{"error: \xff\n", false, "\ufffd", false},
		{"\x00\n", false, "", true},
	} {
		ready, failure, err := ParseReport([]byte(c.in))
		if ready != c.ready || failure != c.failure || (err != nil) != c.fails {
			t.Errorf("%q: got %v, %q, %v", c.in, ready, failure, err)
		}
		if err != nil && !errors.Is(err, ErrNoReport) {
			t.Errorf("%q: got %v", c.in, err)
		}
	}
}

func TestFormatErrorIsOneBoundedLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "two\nlines\x00": "two lines ", "": "", "caf\xc3\xa9 \xff": "café \ufffd",
	} {
		if got := string(FormatError(in)); got != "error: "+want+"\n" {
			t.Errorf("%q: got %q", in, got)
		}
	}
	long := FormatError(strings.Repeat("é", MaxReport))
	if len(long) > MaxReport {
		t.Errorf("%d bytes", len(long))
	}
	if _, failure, err := ParseReport(long); err != nil || strings.Trim(failure, "é") != "" {
		t.Errorf("a cut report reads as %q, %v", failure, err)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	want := ExecRequest{Version: ExecVersion, Args: []string{"/bin/sh", "", "a b\n"}, Timeout: time.Second, Group: "exec-1"}
	var b bytes.Buffer
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRequest(&b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A daemon that was started before the stage was replaced still asks as it did.
func TestRequestOfAnOlderDaemon(t *testing.T) {
	got, err := ReadRequest(strings.NewReader(`{"Version":1,"Args":["a"],"Timeout":5,"Group":"g"}`))
	if err != nil || got.Version != 1 || got.Stdin || got.TTY {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRequestRefused(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "no JSON": "x", "torn": `{"Version":1,"Args":["a"]`, "array": "[]",
		"version":       `{"Version":4,"Args":["a"],"Group":"g"}`,
		"no version":    `{"Version":0,"Args":["a"],"Group":"g"}`,
		"early stdin":   `{"Version":1,"Args":["a"],"Group":"g","Stdin":true}`,
		"early tty":     `{"Version":1,"Args":["a"],"Group":"g","TTY":true}`,
		"early copy":    `{"Version":2,"Args":["a"],"Group":"g","Copy":true}`,
		"copy tty":      `{"Version":3,"Args":["a"],"Group":"g","Copy":true,"TTY":true}`,
		"both":          `{"Version":2,"Args":["a"],"Group":"g","TTY":true,"Stdin":true}`,
		"size":          `{"Version":2,"Args":["a"],"Group":"g","TTY":true,"Width":65536}`,
		"no command":    `{"Version":1,"Args":[],"Group":"g"}`,
		"empty command": `{"Version":1,"Args":[""],"Group":"g"}`,
		"timeout":       `{"Version":1,"Args":["a"],"Timeout":-1,"Group":"g"}`,
		"no group":      `{"Version":1,"Args":["a"]}`,
		"group up":      `{"Version":1,"Args":["a"],"Group":".."}`,
		"group path":    `{"Version":1,"Args":["a"],"Group":"a/b"}`,
		"NUL":           `{"Version":1,"Args":["a\u0000"],"Group":"g"}`,
		"unknown field": `{"Version":1,"Args":["a"],"Group":"g","User":"0"}`,
		"two":           `{"Version":1,"Args":["a"],"Group":"g"}{}`,
		"too long":      `{"Version":1,"Args":["` + strings.Repeat("a", MaxExec) + `"],"Group":"g"}`,
	} {
		if got, err := ReadRequest(strings.NewReader(in)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestOutcome(t *testing.T) {
	var b bytes.Buffer
	want := ExecOutcome{ExitCode: 137, TimedOut: true, Failure: "x"}
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadOutcome(&b); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, in := range []string{"", "{", `{"ExitCode":256}`, `{"ExitCode":-1}`, `{"X":1}`} {
		if got, err := ReadOutcome(strings.NewReader(in)); err == nil {
			t.Errorf("%q: accepted as %+v", in, got)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	for _, s := range []string{"ready\n", "error: x\n", "error: x", "", "ready\nx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ready, failure, err := ParseReport(b)
		if ready && (failure != "" || err != nil) || err == nil && !ready && failure == "" {
			t.Fatalf("%q: %v, %q, %v", b, ready, failure, err)
		}
		if failure != "" {
			if _, again, err := ParseReport(FormatError(failure)); err != nil || again == "" {
				t.Fatalf("%q does not survive: %q, %v", failure, again, err)
			}
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Args":["a"],"Timeout":5,"Group":"g"}`))
	f.Add([]byte(`{"Version":1}`))
	f.Add([]byte(`{"Version":2,"Args":["a"],"Group":"g","TTY":true,"Width":80,"Height":24}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := ReadRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := Write(&out, req); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadRequest(&out); err != nil || !reflect.DeepEqual(again, req) {
			t.Fatalf("%+v became %+v, %v", req, again, err)
		}
	})
}

func FuzzReadOutcome(f *testing.F) {
	f.Add([]byte(`{"ExitCode":1,"TimedOut":false,"Failure":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := ReadOutcome(bytes.NewReader(b)); err == nil && (out.ExitCode < 0 || out.ExitCode > 255) {
			t.Fatalf("%+v", out)
		}
	})
}
