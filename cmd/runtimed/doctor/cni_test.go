package doctor

import (
	"os"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
)

// TestPluginsAreLookedAt where the configuration says that they make the network, and the bridge is not.
func TestPluginsAreLookedAt(t *testing.T) {
	c := configIn(t)
	c.Network.Mode = config.NetworkCNI
	c.Network.CNI.ConfDir, c.Network.CNI.BinDirs = c.Root+"/net.d", []string{c.Root + "/plugins"}
	c.Network.Subnet = "nonsense"
	looks := func(v Verdict, says string) {
		t.Helper()
		r := networks(t.Context(), c)
		if len(r) != 1 || r[0].Verdict != v || !strings.Contains(r[0].Text, says) {
			t.Errorf("%+v, want %s: %s", r, v, says)
		}
	}
	looks(Bad, c.Network.CNI.ConfDir+", is not there")
	for _, dir := range []string{c.Network.CNI.ConfDir, c.Network.CNI.BinDirs[0]} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.Network.CNI.ConfDir+"/a.conflist", []byte(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"p"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	looks(Bad, `plugin "p" is in none of `+c.Network.CNI.BinDirs[0])
	if err := os.WriteFile(c.Network.CNI.BinDirs[0]+"/p", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	looks(OK, "CNI plugins")
}
