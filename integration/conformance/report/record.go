package report

import (
	"fmt"
	"strings"
	"time"
)

// Record is some runs, and the versions of everything that has a part in them.
type Record struct {
	Title string
	Facts [][2]string
	Runs  []Run
}

// Markdown is the record as it is kept: the facts, the runs, and a line for each spec.
func (r Record) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n<!-- Written by make conformance -->\n\n| | |\n|---|---|\n", r.Title)
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "| %s | %s |\n", f[0], f[1])
	}
	b.WriteString("\n| run | seed | passed | failed | skipped | time |\n|--:|--:|--:|--:|--:|--:|\n")
	head, line := "| spec |", "|---|"
	for n, run := range r.Runs {
		passed, skipped, failed := run.count()
		fmt.Fprintf(&b, "| %d | %d | %d | %d | %d | %s |\n", n+1, run.Seed, passed, failed, skipped, run.Took.Round(time.Second))
		head, line = head+fmt.Sprintf(" run %d |", n+1), line+"---|"
	}
	b.WriteString("\n" + head + "\n" + line + "\n")
	for _, name := range r.names() {
		fmt.Fprintf(&b, "| %s |", strings.ReplaceAll(name, "|", `\|`))
		for _, run := range r.Runs {
			fmt.Fprintf(&b, " %s |", run.states()[name])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// names are those of all runs, each once, in order.
func (r Record) names() []string {
	var out []string
	seen := map[string]bool{}
	for _, run := range r.Runs {
		for _, s := range run.Specs {
			if !seen[s.Name] {
				seen[s.Name] = true
				out = append(out, s.Name)
			}
		}
	}
	return out
}

func (r Run) states() map[string]string {
	m := map[string]string{}
	for _, s := range r.Specs {
		m[s.Name] = s.State
	}
	return m
}
