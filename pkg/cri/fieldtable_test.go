package cri_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/translate"
)

// What is decided about a field of a request. Where requests share a message, the first of these that any of them has counts.
// pkg/cri/translate's tests hold each field that is honoured or ignored against what comes of it.
const (
	honoured = iota
	recorded // honoured too: it is kept and returned
	rejected
	ignored
)

// decisions are all fields of all requests, as "Message.field".
func decisions() map[string]int {
	all := map[string]int{}
	note := func(full string, d int) bool {
		was, known := all[full]
		if !known || d < was {
			all[full] = d
			return true
		}
		return false
	}
	var walk func(m protoreflect.MessageDescriptor, inherited int)
	walk = func(m protoreflect.MessageDescriptor, inherited int) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			full := fmt.Sprintf("%s.%s", m.Name(), f.Name())
			d := inherited
			if _, off := translate.Ignored[full]; off {
				d = max(d, ignored)
			} else if _, kept := translate.RecordedOnly[full]; kept {
				d = max(d, recorded)
			}
			if note(full, d) && f.Message() != nil && !f.IsMap() {
				walk(f.Message(), d)
			}
		}
	}
	file := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
	for i := range file.Services().Len() {
		for j := range file.Services().Get(i).Methods().Len() {
			m := file.Services().Get(i).Methods().Get(j)
			d := honoured
			if _, off := cri.NotServed[string(m.Name())]; off {
				d = rejected
			}
			walk(m.Input(), d)
		}
	}
	return all
}

// fieldTable is the numbers, and what is honoured, by message.
func fieldTable() string {
	all := decisions()
	n := map[int]int{}
	byMessage := map[string]map[int][]string{}
	for full, d := range all {
		n[d]++
		message, field, _ := strings.Cut(full, ".")
		if byMessage[message] == nil {
			byMessage[message] = map[int][]string{}
		}
		byMessage[message][d] = append(byMessage[message][d], field)
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "| decision | fields |\n|---|---|\n| honoured | %d |\n| honoured: recorded and returned | %d |\n| rejected, with their RPC | %d |\n| ignored, with a reason | %d |\n| all, of %d messages | %d |\n\n",
		n[honoured], n[recorded], n[rejected], n[ignored], len(byMessage), len(all))
	b.WriteString("| message | honoured | recorded | rejected | ignored |\n|---|---|---|---|---|\n")
	for _, message := range slices.Sorted(maps.Keys(byMessage)) {
		fmt.Fprintf(b, "| %s |", message)
		for _, d := range []int{honoured, recorded, rejected, ignored} {
			fields := byMessage[message][d]
			slices.Sort(fields)
			fmt.Fprintf(b, " %s |", strings.Join(fields, ", "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestEveryFieldIsDecided: what is in the tables exists, and nothing of a served request is rejected as a whole.
func TestEveryFieldIsDecided(t *testing.T) {
	all := decisions()
	for _, table := range []map[string]string{translate.Ignored, translate.RecordedOnly} {
		for full, why := range table {
			if _, ok := all[full]; !ok || why == "" {
				t.Errorf("%s: in a table, with the reason %q; in a request: %v", full, why, ok)
			}
		}
	}
	if len(all) < 200 {
		t.Errorf("only %d fields were found", len(all))
	}
}
