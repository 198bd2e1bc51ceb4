package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const written = `[{"RunTime": 61000000000, "SuiteConfig": {"RandomSeed": 7}, "SpecReports": [
 {"LeafNodeType": "BeforeSuite", "State": "passed"},
 {"ContainerHierarchyTexts": ["[k8s.io] PodSandbox", "runtime"], "LeafNodeType": "It", "LeafNodeText": "should stop", "State": "passed", "NumAttempts": 1, "RunTime": 5},
 {"ContainerHierarchyTexts": ["[k8s.io] AppArmor"], "LeafNodeType": "It", "LeafNodeText": "should enforce", "State": "skipped", "NumAttempts": 1, "Failure": {"Message": "disabled"}},
 {"ContainerHierarchyTexts": ["[k8s.io] Image | Manager"], "LeafNodeType": "It", "LeafNodeText": "should pull", "State": "panicked", "NumAttempts": 1, "Failure": {"Message": "a\n  b\nc\nd\ne"}},
 {"ContainerHierarchyTexts": ["[k8s.io] benchmark"], "LeafNodeType": "It", "LeafNodeText": "pods", "State": "skipped", "NumAttempts": 0}
]}]`

func parsed(t *testing.T) Run {
	t.Helper()
	r, err := Parse([]byte(written))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	r := parsed(t)
	want := []Spec{
		{"AppArmor should enforce", Skipped, "disabled", 0},
		{"Image | Manager should pull", "panicked", "a\n  b\nc\nd\ne", 0},
		{"PodSandbox runtime should stop", Passed, "", 5},
	}
	if fmt.Sprint(r.Specs) != fmt.Sprint(want) || r.Seed != 7 || r.Took != 61*time.Second {
		t.Errorf("%+v", r)
	}
	if got := r.Summary(); got != "3 specs: 1 passed, 1 failed, 1 skipped, in 1m1s" {
		t.Error(got)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":   "unexpected end",
		"[]": "0 suites",
		`[{"SpecReports": [{"LeafNodeType": "BeforeSuite", "State": "failed", "Failure": {"Message": "no endpoint"}}]}]`: "no endpoint",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Only what passed, may be skipped or has to fail is no problem; and all specs have to be there.
func TestProblems(t *testing.T) {
	whole := Run{}
	for n := range Specs - 1 {
		whole.Specs = append(whole.Specs, Spec{Name: fmt.Sprint("spec", n), State: Passed})
	}
	with := func(name, state string) Run {
		return Run{Specs: append(append([]Spec(nil), whole.Specs...), Spec{Name: name, State: state, Message: "why"})}
	}
	without, differ := Expect{NoAppArmor: true}, Expect{Differ: []string{"odd"}}
	for _, q := range []struct {
		what   string
		run    Run
		expect Expect
		want   string
	}{
		{"all passed", with("last", Passed), Expect{}, ""},
		{"AppArmor without it", with("AppArmor x", Skipped), without, ""},
		{"AppArmor with it", with("AppArmor x", Skipped), Expect{}, "skipped: AppArmor x: why"},
		{"another skip", with("Userns", Skipped), without, "skipped: Userns: why"},
		{"a failure of AppArmor", with("AppArmor x", Failed), without, "failed: AppArmor x: why"},
		{"a timeout", with("slow", "timedout"), without, "timedout: slow: why"},
		{"one is missing", whole, without, "116 specs ran, not 117"},
		{"a part", whole, Expect{Partial: true}, ""},
		{"a difference", with("odd", Failed), differ, ""},
		{"a difference that is gone", with("odd", Passed), differ, "passed, and is expected to fail: odd"},
		{"a difference that panics", with("odd", "panicked"), differ, "panicked: odd: why"},
		{"a difference that is skipped", with("odd", Skipped), differ, "skipped: odd: why"},
		{"a difference that nobody knows", with("last", Passed), differ, "there is no spec odd"},
	} {
		if got := strings.Join(q.run.Problems(q.expect), "; "); got != q.want {
			t.Errorf("%s: %q", q.what, got)
		}
	}
	if got := parsed(t).Problems(Expect{true, true, nil}); len(got) != 1 || got[0] != "panicked: Image | Manager should pull: a b c d" {
		t.Errorf("%q", got)
	}
}

func TestMarkdown(t *testing.T) {
	second := parsed(t)
	second.Specs = second.Specs[1:]
	second.Specs[0].State = Passed
	got := Record{Title: "critest on v1", Facts: [][2]string{{"critest", "v1.36.0"}}, Runs: []Run{parsed(t), second}}.Markdown()
	for _, want := range []string{
		"# critest on v1\n", "| critest | v1.36.0 |\n",
		"| 1 | 7 | 1 | 1 | 1 | 1m1s |\n| 2 | 7 | 2 | 0 | 0 | 1m1s |\n",
		"| spec | run 1 | run 2 |\n|---|---|---|\n",
		"| AppArmor should enforce | skipped |  |\n",
		"| Image \\| Manager should pull | panicked | passed |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(written))
	f.Add([]byte(`[{"SpecReports":[{"LeafNodeType":"It","NumAttempts":1}]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		Record{Runs: []Run{r}}.Markdown()
		if len(r.Problems(Expect{Partial: true})) == 0 {
			for _, s := range r.Specs {
				if s.State != Passed {
					out, _ := json.Marshal(s)
					t.Errorf("no problem: %s", out)
				}
			}
		}
	})
}
