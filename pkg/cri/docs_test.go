package cri_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/cri/translate"
)

var update = flag.Bool("update", false, "write docs/cri.md anew")

const docs = "../../docs/cri.md"

// TestDocsAreTheTables: docs/cri.md is what the code says of itself.
func TestDocsAreTheTables(t *testing.T) {
	want := criDocs(t)
	if *update {
		if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), want); d != "" {
		t.Errorf("docs/cri.md differs from the code: run go test ./pkg/cri -run Docs -update\n%s", d)
	}
}

func criDocs(t *testing.T) string {
	t.Helper()
	b := &strings.Builder{}
	b.WriteString(`# What of the CRI is served, and how

<!-- Written from pkg/cri: go test ./pkg/cri -run Docs -update -->

runtimed serves ` + "`runtime.v1`" + ` of k8s.io/cri-api v0.37 on ` + "`<run>/runtimed.sock`" + `. Beside it, on the same socket, is
` + "`runtimed.control.v1`" + ` (pkg/cri/control/controlpb/control.proto): signals, waiting, removal on exit.

* A unique prefix of an id is taken wherever an id is; an ambiguous one is InvalidArgument.
* Stop and Remove of what is not there succeed. Status of it is NotFound, but ImageStatus answers with no image.
* RunPodSandbox and CreateContainer may be repeated: the same metadata gets the same id, also while the first call is under way.
* Messages are at most 16 MiB either way. The two streams of ExecSync together are cut to fit.
* Names (of metadata) may be printable text of 253 bytes that is not a path; ids of users and groups are 0 to 2147483647; labels and
  annotations are 1 MiB each, kept to the byte; one argument or variable is at most 128 KiB, all together 2 MiB, and valid UTF-8 without
  NUL; a hostname has 64 bytes; lists have 4096 entries.

## Codes

| code | when |
|---|---|
| InvalidArgument | the request can never be served; the text begins with the path of the field |
| NotFound | there is no such sandbox, container or runtime handler |
| AlreadyExists | the name is taken by something that is in the way |
| FailedPrecondition | the object is in a state that forbids it, or the node lacks what it takes |
| ResourceExhausted | a limit, or a full disk or pool; and messages beyond 16 MiB |
| Unimplemented | an RPC, or a field of a request, that this release does not serve |
| DeadlineExceeded, Canceled | the caller's time was over, or it left; also a command of ExecSync that took longer than its timeout |
| Unavailable | something outside failed and may work later; the daemon is stopping |
| Unknown | everything else; of PullImage with the prefixes that the kubelet knows, SignatureValidationFailed and RegistryUnavailable |
| Internal | a bug: the log has a stack |

## RPCs

| RPC | |
|---|---|
`)
	file := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
	for i := range file.Services().Len() {
		for j := range file.Services().Get(i).Methods().Len() {
			name := string(file.Services().Get(i).Methods().Get(j).Name())
			said := "served"
			if why, off := cri.NotServed[name]; off {
				said = "not served: " + why
			}
			fmt.Fprintf(b, "| %s | %s |\n", name, said)
		}
	}
	table := func(title, text string, m map[string]string) {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n| field | why |\n|---|---|\n", title, text)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(b, "| `%s` | %s |\n", k, m[k])
		}
	}
	b.WriteString("\n## What is answered where something is wrong\n\nMade by asking the server; \"–\" is a case that the RPC does not have. " +
		"A call whose caller leaves is given up where that is safe; a way down that has begun is finished.\n\n" + errorMatrix(t))
	b.WriteString("\n## Every field of every request\n\nA test sets each alone, and fails on one that changes nothing and is not in a table. A value that cannot be is refused by " +
		"the path of its field.\n\n" + fieldTable())
	table("Fields that are not heeded", "Every field that is in neither of these tables acts, or is refused by its name.", translate.Ignored)
	table("Fields that are recorded and returned, and act on nothing", "A sandbox runs no program of an image.", translate.RecordedOnly)
	return b.String()
}
