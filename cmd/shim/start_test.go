package main

import (
	"strings"
	"testing"
)

func TestStartToExit(t *testing.T) {
	h := newHost(t)
	before := mounts(t)
	c := h.newPod(true).newContainer("sh", "-c", "echo out; echo err >&2; cat /proc/self/uid_map; ls -n / | grep bin; exit 7").run()
	out := c.output(7)
	for _, want := range []string{"out\n", "err\n", "0 1342177280      65536", " 0        0 "} {
		if !strings.Contains(out, want) {
			t.Errorf("log lacks %q:\n%s", want, out)
		}
	}
	_ = before
}
