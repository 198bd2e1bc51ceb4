package supervise

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/monitor"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestParseProcs(t *testing.T) {
	for in, want := range map[string][]int{
		"": nil, "1\n22\n333\n": {1, 22, 333}, "0\n5\n": {5}, "7\n": nil, "12\n34": {12}, "12\nx\n34\n": {12}, "\n\n8\n": {8},
		"99999999999999999999\n5\n": nil, "-1\n": nil,
	} {
		if got := parseProcs([]byte(in), 7); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestParseOOM(t *testing.T) {
	for in, want := range map[string]int{
		"": -1, "oom_kill 3\n": 3, "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n": 12,
		"low 0\nhigh 0\nmax 9\noom 4\noom_kill 2\noom_group_kill 1\n": 2, "oom_kill 3": -1, "oom_kill \n": -1, "oom_kill x\n": -1,
		"oom_kill 99999999999999999999999\n": -1, "\n\noom_kill 0\n": 0, "xoom_kill 4\n": -1,
	} {
		n, ok := parseOOM([]byte(in))
		if ok != (want >= 0) || ok && n != uint64(want) {
			t.Errorf("%q: %d %v, want %d", in, n, ok, want)
		}
	}
}

func FuzzParseProcs(f *testing.F) {
	f.Add([]byte("1\n22\n333\n"))
	f.Add([]byte("oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseOOM(b)
		for _, pid := range parseProcs(b, 7) {
			if pid <= 0 || pid == 7 || pid >= 1<<31 {
				t.Fatalf("%q: pid %d", b, pid)
			}
		}
	})
}

// What is written by hand is what encoding/json reads, strictly and to the last field.
func TestRecordsAreThoseOfSpec(t *testing.T) {
	a := monitor.Args{InitPID: 42, InitTicks: 1<<64 - 1, BootID: "a\"b\\c\n\x01é"}
	var s spec.Started
	strict(t, startedJSON(a, 1_700_000_000_123_456_789), &s)
	want := spec.Started{Version: spec.RecordVersion, StartedAt: 1_700_000_000_123_456_789,
		Init: spec.Process{PID: 42, StartTicks: 1<<64 - 1, BootID: a.BootID}}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	var e spec.Exit
	strict(t, outcome{at: 5, code: 137, oomKilled: true, lost: 1<<64 - 1}.json(), &e)
	if (e != spec.Exit{Version: spec.RecordVersion, FinishedAt: 5, Code: 137, OOMKilled: true, LogLost: 1<<64 - 1}) {
		t.Errorf("got %+v", e)
	}
	if len(outcome{at: 1<<63 - 1, code: 255, lost: 1<<64 - 1}.json()) > exitRoom {
		t.Error("exit.json is larger than its room")
	}
}

// strict reads text into v and checks that it names exactly v's fields.
func strict(t *testing.T, text []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var got, want map[string]any
	again, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(text, &got) != nil || json.Unmarshal(again, &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s is not %s", text, again)
	}
	if text[len(text)-1] != '\n' {
		t.Errorf("%s has no newline at its end", text)
	}
}
