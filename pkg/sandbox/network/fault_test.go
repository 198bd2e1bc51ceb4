package network

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

var somePorts = []spec.PortMapping{
	{Protocol: spec.TCP, HostPort: 8080, ContainerPort: 80},
	{Protocol: spec.UDP, HostIP: nodeIP4, HostPort: 53, ContainerPort: 53},
}

func stepNames(n *Network) []string {
	var out []string
	for _, s := range n.flow(&addition{n: n}).Steps {
		out = append(out, s.Name)
	}
	return out
}

// An error at every step, before it and, by the step that follows, after it.
func TestEveryStepFails(t *testing.T) {
	node, _ := newNode(t)
	var fail string
	observe := func(e step.Event) error {
		if e.Phase == step.Doing && e.Step == fail {
			return errors.New("injected")
		}
		return nil
	}
	cfg := config(t)
	n := start(t, node, cfg, nil, observe)
	before := snapshot(node)
	pod := newNS(t, "pod")
	for _, name := range stepNames(n) {
		fail = name
		if _, err := n.Add(t.Context(), request(pod, somePorts...)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("step %s: %v", name, err)
		}
		same(t, before, snapshot(node))
		if len(n.pods)+n.pools[true].Used()+n.pools[false].Used() != 0 {
			t.Errorf("step %s: memory holds %v", name, n.pods)
		}
	}
	fail = ""
	if _, err := n.Add(t.Context(), request(pod, somePorts...)); err != nil {
		t.Errorf("after all failures: %v", err)
	}
}

// An undo that fails keeps what is below it; the next removal takes all.
func TestEveryUndoFails(t *testing.T) {
	node, _ := newNode(t)
	var fail string
	observe := func(e step.Event) error {
		if e.Phase == step.Undoing && e.Step == fail {
			return errors.New("injected")
		}
		return nil
	}
	n := start(t, node, config(t), nil, observe)
	before := snapshot(node)
	for _, s := range n.flow(&addition{n: n}).Steps {
		if s.Undo == nil {
			continue
		}
		p := addPod(t, n, somePorts...)
		fail = s.Name
		if err := n.Remove(t.Context(), p.id, nil); err == nil {
			t.Errorf("undo %s: no error", s.Name)
		}
		fail = ""
		if err := n.Remove(t.Context(), p.id, nil); err != nil {
			t.Errorf("undo %s: %v", s.Name, err)
		}
		same(t, before, snapshot(node))
	}
}

// The daemon dies after every step; its successor knows no record of the sandbox.
func TestRecoverAfterDeathAtEveryStep(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	first := start(t, node, cfg, nil, nil)
	keep := addPod(t, first, spec.PortMapping{Protocol: spec.TCP, HostPort: 9090, ContainerPort: 80})
	keep.serve("tcp", ":80")
	live := map[string]spec.NetworkResult{keep.id: keep.result}
	before := snapshot(node)
	names := stepNames(first)
	first.Close()
	for i := range names {
		dying := start(t, node, cfg, live, nil)
		pod := newNS(t, "pod")
		r := request(pod, somePorts...)
		a := &addition{n: dying, id: r.SandboxID, request: r, netns: -1}
		f := dying.flow(a)
		f.Steps = f.Steps[:i+1]
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.close()
		dying.Close()
		if names[i] == "rules" && len(leaks(t, node, cfg, live)) == 0 {
			t.Error("the leak check misses a half-made sandbox")
		}
		n := start(t, node, cfg, live, nil)
		same(t, before, snapshot(node))
		node.reach("tcp", "127.0.0.1:9090", "10.88.0.1")
		if l := leaks(t, node, cfg, live); l != nil {
			t.Errorf("after %s: %q", names[i], l)
		}
		if p := addPod(t, n, somePorts...); p.v4 == keep.v4 {
			t.Errorf("after %s: %s is given twice", names[i], p.v4)
		} else if err := n.Remove(t.Context(), p.id, nil); err != nil {
			t.Error(err)
		}
		n.Close()
	}
}

func TestRecoverKeepsAddressesAndPorts(t *testing.T) {
	node, outside := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	live := map[string]spec.NetworkResult{}
	pods := []*testPod{addPod(t, n, somePorts...), addPod(t, n), addPod(t, n)}
	for _, p := range pods {
		live[p.id] = p.result
	}
	pods[0].serve("tcp", ":80")
	// Gone while no daemon ran: its link, as after a reboot. It holds nothing any more.
	n.Close()
	gone := pods[2]
	gone.remove()
	waitGone(t, node, cfg.VethName(gone.id))
	// Nonsense in records must not stop the daemon.
	live[newID()] = spec.NetworkResult{Addresses: []spec.Address{{IP: "nonsense"}}}
	live[newID()] = spec.NetworkResult{Addresses: []spec.Address{{IP: pods[0].v4}}, Ports: somePorts}

	n = start(t, node, cfg, live, nil)
	if ids := slices.Sorted(maps.Keys(n.pods)); !slices.Equal(ids, slices.Sorted(slices.Values([]string{pods[0].id, pods[1].id}))) {
		t.Errorf("taken over: %v", ids)
	}
	outside.reach("tcp", join(nodeIP4, 8080), outsideIP4)
	if _, err := n.Add(t.Context(), request(newNS(t, "pod"), somePorts[0])); !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), pods[0].id) {
		t.Errorf("conflict with a recovered pod: %v", err)
	}
	if p := addPod(t, n); p.v4 == pods[0].v4 || p.v4 == pods[1].v4 {
		t.Errorf("%s is given twice", p.v4)
	}
}

func waitGone(t *testing.T, node *ns, link string) {
	t.Helper()
	for range 500 {
		if _, err := byName(node, link); isNotExist(err) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("link %s does not go", link)
}

func TestRemoveBeforeRecover(t *testing.T) {
	node, _ := newNode(t)
	cfg := config(t)
	n := start(t, node, cfg, nil, nil)
	before := snapshot(node)
	p, q := addPod(t, n, somePorts...), addPod(t, n)
	n.Close()
	var late *Network
	var err error
	node.run(func() { late, err = New(cfg, Options{}) })
	must(err)
	defer late.Close()
	if c := late.Condition(); c.OK || c.Reason == "" || c.Message == "" {
		t.Errorf("condition before Recover: %+v", c)
	}
	if _, err := late.Add(t.Context(), request(newNS(t, "pod"))); !errdefs.IsUnavailable(err) {
		t.Errorf("Add before Recover: %v", err)
	}
	for _, last := range []*spec.NetworkResult{nil, {Addresses: []spec.Address{{IP: "?"}}}} {
		if err := late.Remove(t.Context(), p.id, last); err != nil {
			t.Error(err)
		}
	}
	if l := leaks(t, node, cfg, map[string]spec.NetworkResult{q.id: q.result}); l != nil {
		t.Errorf("leaks: %q", l)
	}
	if err := late.Remove(t.Context(), q.id, &q.result); err != nil {
		t.Error(err)
	}
	same(t, before, snapshot(node))
}

func TestBridgeDeletedUnderPods(t *testing.T) {
	node, outside := newNode(t)
	n := start(t, node, config(t), nil, nil)
	outside.serve("tcp", ":9000")
	p := addPod(t, n)
	node.sh("ip", "link", "del", "rtbr0")
	q := addPod(t, n)
	q.serve("tcp", ":80")
	p.reach("tcp", join(outsideIP4, 9000), nodeIP4)
	p.reach("tcp", join(q.v6, 80), p.v6)
}

func TestConditionNamesTheBridge(t *testing.T) {
	node, _ := newNode(t)
	node.run(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "rtbr0"
		must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "else"}))
	})
	var n *Network
	var err error
	node.run(func() { n, err = New(config(t), Options{}) })
	must(err)
	defer n.Close()
	if err := n.Recover(t.Context(), nil); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "no bridge") {
		t.Errorf("Recover: %v", err)
	}
	if c := n.Condition(); c.OK || c.Reason != "BridgeFailed" || !strings.Contains(c.Message, "rtbr0") {
		t.Errorf("condition: %+v", c)
	}
	node.sh("ip", "link", "del", "rtbr0")
	if err := n.Recover(t.Context(), nil); err != nil {
		t.Errorf("again: %v", err)
	}
	if c := n.Condition(); !c.OK {
		t.Errorf("condition: %+v", c)
	}
}

func TestCancelledAddLeavesNothing(t *testing.T) {
	node, _ := newNode(t)
	var cancel context.CancelFunc
	var at string
	n := start(t, node, config(t), nil, func(e step.Event) error {
		if e.Phase == step.Done && e.Step == at {
			cancel()
		}
		return nil
	})
	before := snapshot(node)
	pod := newNS(t, "pod")
	names := stepNames(n)
	for _, at = range names[:len(names)-1] {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		cancel = stop
		if _, err := n.Add(ctx, request(pod, somePorts...)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %s: %v", at, err)
		}
		same(t, before, snapshot(node))
	}
}
