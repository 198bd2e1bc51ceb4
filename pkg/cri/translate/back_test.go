package translate

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestRequestsComeBack sets every field of the two large requests, one at a time: what the record makes of it must come
// back as a message that means the same. `crictl inspect` shows these.
func TestRequestsComeBack(t *testing.T) {
	for name, again := range map[string]func(proto.Message) (was, is any, err error){
		"RunPodSandbox": func(m proto.Message) (any, any, error) {
			was, err := Sandbox(m.(*v1.RunPodSandboxRequest))
			if err != nil {
				return nil, nil, nil // refused: another test's
			}
			is, err := Sandbox(&v1.RunPodSandboxRequest{Config: SandboxConfig(was), RuntimeHandler: was.Handler})
			return was, is, err
		},
		"CreateContainer": func(m proto.Message) (any, any, error) {
			_, was, err := Container(m.(*v1.CreateContainerRequest))
			if err != nil {
				return nil, nil, nil
			}
			_, is, err := Container(&v1.CreateContainerRequest{PodSandboxId: "s", Config: ContainerConfig(was)})
			return was, is, err
		},
	} {
		n := 0
		eachField(translators[name].good(), func(path, full string, set func(proto.Message, bool)) {
			m := translators[name].good()
			needs(path, m)
			set(m, true)
			was, is, err := again(m)
			if err != nil {
				t.Errorf("%s: what came back is refused: %v", path, err)
			}
			if d := cmp.Diff(was, is, cmp.Exporter(func(reflect.Type) bool { return true }), equalEmpty); d != "" {
				t.Errorf("%s does not come back:\n%s", path, d)
			}
			n++
		})
		t.Logf("%s: %d fields", name, n)
	}
}

// equalEmpty: no list and an empty one mean the same.
var equalEmpty = cmp.FilterValues(func(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.IsValid() && y.IsValid() && (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Kind() == y.Kind() && x.Len() == 0 && y.Len() == 0
}, cmp.Comparer(func(any, any) bool { return true }))
