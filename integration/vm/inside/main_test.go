package inside

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) {
	if os.Getenv("RUNTIMED_VM") == "" {
		fmt.Println("these tests are for the test machine: make vm-test")
		return
	}
	os.Exit(daemontest.Here(m.Run))
}

// sh runs a script on the machine; it must end with 0.
func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("/bin/bash", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
