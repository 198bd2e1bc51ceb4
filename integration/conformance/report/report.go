package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Specs is how many specs critest v1.36.0 has on Linux, besides its benchmarks.
const Specs = 117

// The states of a spec that are told apart; all others are failures, too.
const (
	Passed  = "passed"
	Skipped = "skipped"
	Failed  = "failed"
)

// Spec is one spec and what became of it.
type Spec struct {
	Name    string
	State   string
	Message string // why it was skipped, or how it failed
	Took    time.Duration
}

// Run is one run of critest.
type Run struct {
	Seed  int64
	Took  time.Duration
	Specs []Spec // by name
}

// Parse reads a report as ginkgo writes it (-ginkgo.json-report). Specs that were not selected are not part of the Run.
func Parse(text []byte) (Run, error) {
	var suites []struct {
		RunTime     time.Duration
		SuiteConfig struct{ RandomSeed int64 }
		SpecReports []struct {
			ContainerHierarchyTexts   []string
			LeafNodeType              string
			LeafNodeText              string
			State                     string
			RunTime                   time.Duration
			NumAttempts               int
			Failure                   struct{ Message string }
			SpecialSuiteFailureReason string
		}
	}
	if err := json.Unmarshal(text, &suites); err != nil {
		return Run{}, err
	}
	if len(suites) != 1 {
		return Run{}, fmt.Errorf("%d suites, not one", len(suites))
	}
	r := Run{Seed: suites[0].SuiteConfig.RandomSeed, Took: suites[0].RunTime}
	for _, s := range suites[0].SpecReports {
		if s.LeafNodeType != "It" {
			if s.State != Passed && s.State != "" {
				return r, errors.New(s.LeafNodeType + ": " + s.Failure.Message)
			}
			continue
		}
		if s.NumAttempts == 0 {
			continue
		}
		name := strings.TrimPrefix(strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "), "[k8s.io] ")
		r.Specs = append(r.Specs, Spec{Name: name, State: s.State, Message: s.Failure.Message, Took: s.RunTime})
	}
	slices.SortStableFunc(r.Specs, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

// count is how many specs passed, were skipped, and failed.
func (r Run) count() (passed, skipped, failed int) {
	for _, s := range r.Specs {
		switch s.State {
		case Passed:
			passed++
		case Skipped:
			skipped++
		default:
			failed++
		}
	}
	return passed, skipped, failed
}

// Summary is the run in a line.
func (r Run) Summary() string {
	passed, skipped, failed := r.count()
	return fmt.Sprintf("%d specs: %d passed, %d failed, %d skipped, in %s", len(r.Specs), passed, failed, skipped, r.Took.Round(time.Second))
}

// brief is the beginning of a message: below it are the same words as Go values.
func brief(message string) string {
	lines := strings.Split(message, "\n")
	for n := range lines {
		lines[n] = strings.TrimSpace(lines[n])
	}
	return strings.Join(lines[:min(len(lines), 4)], " ")
}

var appArmor = regexp.MustCompile(`(?i)apparmor`)

// Expect is what a run is judged by.
type Expect struct {
	NoAppArmor bool     // its specs may be skipped, and no others
	Partial    bool     // not all specs were run
	Differ     []string // the specs that must fail, for the node's policy says otherwise
}

// Problems says, a line each, what keeps the run from being a proof.
func (r Run) Problems(e Expect) []string {
	var out []string
	for _, s := range r.Specs {
		skipped := s.State == Skipped && e.NoAppArmor && appArmor.MatchString(s.Name)
		switch differs := slices.Contains(e.Differ, s.Name); {
		case differs && s.State == Passed:
			out = append(out, "passed, and is expected to fail: "+s.Name)
		case s.State == Passed, skipped, differs && s.State == Failed:
		default:
			out = append(out, fmt.Sprintf("%s: %s: %s", s.State, s.Name, brief(s.Message)))
		}
	}
	if len(r.Specs) != Specs && !e.Partial {
		out = append(out, fmt.Sprintf("%d specs ran, not %d", len(r.Specs), Specs))
	}
	for _, name := range e.Differ {
		if !e.Partial && !slices.ContainsFunc(r.Specs, func(s Spec) bool { return s.Name == name }) {
			out = append(out, "there is no spec "+name)
		}
	}
	return out
}
