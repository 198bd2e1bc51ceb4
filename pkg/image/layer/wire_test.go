package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestOutcomeThereAndBack(t *testing.T) {
	limits := Limits{}.WithDefaults()
	for _, c := range []struct {
		result Result
		err    error
		kind   error
		text   string
	}{
		{result: Result{Bytes: 12, Entries: 3}},
		{result: Result{Bytes: limits.Bytes, Entries: limits.Entries}},
		{err: spec.Invalidf("layer: %q is bad", "\xff"), kind: errdefs.ErrInvalidArgument, text: `layer: "\xff" is bad`},
		{err: spec.Errorf(errdefs.ErrResourceExhausted, "too much"), kind: errdefs.ErrResourceExhausted, text: "too much"},
		{err: spec.Errorf(errdefs.ErrUnavailable, "disk"), kind: errdefs.ErrUnavailable, text: "disk"},
		{err: errors.New("unknown\nkind"), kind: errdefs.ErrUnavailable, text: "unknown?kind"},
		{err: spec.Invalidf("%s", strings.Repeat("€", 5000)), kind: errdefs.ErrInvalidArgument, text: strings.Repeat("€", 340) + "?…"},
	} {
		var b bytes.Buffer
		if err := WriteOutcome(&b, c.result, c.err); err != nil {
			t.Fatal(err)
		}
		got, err := ParseOutcome(b.Bytes(), limits)
		if c.err == nil {
			if err != nil || got != c.result {
				t.Errorf("%v came back as %v, %v", c.result, got, err)
			}
			continue
		}
		if err == nil || !errors.Is(err, c.kind) || spec.KindOf(err) != c.kind || strings.Trim(err.Error(), "?…") != strings.Trim(c.text, "?…") {
			t.Errorf("%q came back as %v of kind %v", c.err, err, spec.KindOf(err))
		}
	}
}

func TestOutcomeGarbage(t *testing.T) {
	limits := Limits{Bytes: 100, Entries: 10}
	for name, data := range map[string]string{
		"nothing": "", "no line end": "ok 1 1", "one number": "ok 1\n", "no number": "ok\n", "words": "ok a b\n", "negative": "ok -1 1\n",
		"over the limit": "ok 101 1\n", "entries over the limit": "ok 1 11\n", "wraps": "ok 18446744073709551617 1\n", "plus": "ok +1 1\n",
		"leading zero": "ok 01 1\n", "three numbers": "ok 1 1 1\n", "two lines": "ok 1 1\nok 1 1\n", "unknown verb": "fine 1 1\n",
		"unknown kind": "error notfound text\n", "no text": "error invalid\n", "empty text": "error invalid \n", "no kind": "error\n",
		"binary": "\x00\x01\x02\n", "not UTF-8": "error invalid \xff\n", "long": "error invalid " + strings.Repeat("x", maxOutcome) + "\n",
		"long text": "error invalid " + strings.Repeat("x", 2*maxText+1) + "\n", "space": " ok 1 1\n", "upper case": "OK 1 1\n",
	} {
		if r, err := ParseOutcome([]byte(data), limits); !errors.Is(err, errdefs.ErrAborted) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	_, err := ParseOutcome([]byte("error invalid a\u202eb\x1b[31m\n"), limits)
	if err == nil || err.Error() != "a?b?[31m" {
		t.Errorf("control characters come through: %q", err)
	}
}

func TestReadJob(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"empty": {"", "job"}, "not JSON": {"hello", "job"}, "other version": {`{"Version":2}`, "version 2"}, "no version": {`{}`, "version 0"},
		"torn": {`{"Version":1,"Par`, "job"}, "other type": {`{"Version":"1"}`, "job"},
	} {
		if _, err := ReadJob(strings.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if j, err := ReadJob(strings.NewReader(`{"Version":1,"Target":"/x"}`)); err != nil || j.Target != "/x" {
		t.Errorf("%+v, %v", j, err)
	}
}

func FuzzParseOutcome(f *testing.F) {
	for _, s := range []string{"ok 1 2\n", "error invalid text\n", "", "ok -1 2\n", "error exhausted \xff\n"} {
		f.Add([]byte(s))
	}
	limits := Limits{Bytes: 1000, Entries: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseOutcome(data, limits)
		if err == nil {
			if r.Bytes < 0 || r.Bytes > limits.Bytes || r.Entries < 0 || r.Entries > limits.Entries || fmt.Sprintf("ok %d %d\n", r.Bytes, r.Entries) != string(data) {
				t.Fatalf("%q is taken as %v", data, r)
			}
			return
		}
		if spec.KindOf(err) == nil || len(err.Error()) > 4*maxOutcome || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Fatalf("%q gives %q", data, err)
		}
	})
}

func FuzzReadJob(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Compression":"gzip","Target":"/t","Parents":["/a"],"Limits":{"Bytes":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) { ReadJob(bytes.NewReader(data)) })
}
