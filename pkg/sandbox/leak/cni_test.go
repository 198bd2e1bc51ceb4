package leak

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAttachmentsOfNoSandbox are leaks; those of recorded ones, stopped or not, are not.
func TestAttachmentsOfNoSandbox(t *testing.T) {
	w := newWorld(t)
	w.o.CNIOnly, w.o.CNICache = true, t.TempDir()
	sid, _ := w.sandbox(nil)
	lost := newID()
	for _, file := range []string{"attached/" + sid + ".json", "leaving/" + lost + ".json", "results/net-" + sid + "-eth0", "results/net-" + newID() + "-eth0"} {
		path := filepath.Join(w.o.CNICache, file)
		must(os.MkdirAll(filepath.Dir(path), 0o700))
		must(os.WriteFile(path, []byte("{}"), 0o600))
	}
	var found []string
	for _, l := range w.find() {
		if l.Kind != Network || l.Fix == "" {
			t.Errorf("%+v", l)
		}
		found = append(found, l.What)
	}
	if len(found) != 2 || !strings.Contains(found[0], lost) || !strings.Contains(found[1], "result ") {
		t.Errorf("%q", found)
	}
}
