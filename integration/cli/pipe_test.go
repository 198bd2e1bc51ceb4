package cli

import (
	"testing"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// TestNobodyReads: a program whose output nobody reads any more ends with the pipeline, and nothing of it stays.
func TestNobodyReads(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	warm(t, d)
	for _, flags := range []string{"--rm", ""} {
		before := d.Snapshot()
		// The pipeline's status is the client's, and its output is what head let through.
		script := `set -o pipefail; "$0" --config "$1" run --name loud ` + flags + ` "$2" yes 2>/dev/null | head -n 2`
		want(t, "run "+flags+" | head", d.Run("bash", "-c", script, daemontest.Bin(t)+"/runtimed", d.ConfigFile, d.Image), 141, "y\ny")
		if flags == "" {
			contains(t, "ps", d.CLI("ps", "-a").Stdout, "loud", "exited (137)")
			want(t, "rm", d.CLI("rm", "loud"), 0, "loud")
		}
		daemontest.Same(t, before, d.Snapshot())
	}
}
