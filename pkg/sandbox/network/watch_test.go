package network

import (
	"testing"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// eventually waits for the watcher, without a limit that a slow machine could break.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: does not happen", what)
}

func TestFlushedTablesComeBack(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	p := addPod(t, n, somePorts...)
	p.serve("tcp", ":80")
	before := snapshot(node)
	for _, cmd := range [][]string{
		{"nft", "flush", "ruleset"},
		{"nft", "delete", "table", "inet", "runtimed"},
		{"nft", "delete", "table", "bridge", "runtimed"},
		{"nft", "flush", "chain", "inet", "runtimed", "postrouting"},
	} {
		node.sh(cmd...)
		eventually(t, "repair", func() bool {
			n.nft.mu.Lock()
			defer n.nft.mu.Unlock()
			return n.nft.intact(n.rules)
		})
		outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
		same(t, before, snapshot(node))
	}
}

// Changes come while the tables are away and nobody has noticed yet.
func TestChangesWithoutTables(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	before := snapshot(node)
	p := addPod(t, n, somePorts...)
	p.serve("tcp", ":80")
	n.stop() // no watcher
	n.wait.Wait()
	node.sh("nft", "flush", "ruleset")
	q := addPod(t, n, spec.PortMapping{Protocol: spec.TCP, HostPort: 9090, ContainerPort: 80})
	q.serve("tcp", ":80")
	outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
	outside.reach("tcp", join(nodeIP4, 9090), outsideIP4)
	node.sh("nft", "flush", "ruleset")
	for _, pod := range []*testPod{p, q} {
		if err := n.Remove(t.Context(), pod.id, nil); err != nil {
			t.Fatal(err)
		}
	}
	same(t, before, snapshot(node))
}

func TestRecoverAfterFlush(t *testing.T) {
	node, outside := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	p := addPod(t, n, somePorts...)
	p.serve("tcp", ":80")
	before := snapshot(node)
	n.Close()
	node.sh("nft", "flush", "ruleset")
	start(t, node, cfg, map[string]spec.NetworkResult{p.id: p.result}, nil)
	same(t, before, snapshot(node))
	outside.reach("tcp", join(nodeIP6, 8080), outsideIP6)
	node.reach("tcp", "127.0.0.1:8080", "10.88.0.1")
}
