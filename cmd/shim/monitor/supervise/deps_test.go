package supervise_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// There is one monitor per container: what it links is memory times containers.
func TestLinksLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/runtimed/runtimed/cmd/shim/monitor").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, p := range []string{"fmt", "os", "time", "reflect", "context", "net", "net/http", "encoding/json", "crypto/tls",
		"os/signal", "runtime/debug", "golang.org/x/sys/unix", "google.golang.org/grpc"} {
		if slices.Contains(deps, p) {
			t.Errorf("the monitor links %s", p)
		}
	}
	for _, p := range deps {
		if strings.Contains(p, ".") && !strings.HasPrefix(p, "github.com/runtimed/runtimed/") {
			t.Errorf("the monitor links %s: nothing but a few packages of the standard library", p)
		}
	}
}
