package spec

import (
	"errors"
	"io"
	"testing"

	"github.com/containerd/errdefs"
)

func TestErrorsHaveOneKindAndTheirOwnText(t *testing.T) {
	inner := NotFoundf("there is no image %q", "x")
	outer := Errorf(errdefs.ErrUnavailable, "the registry: %w", errors.Join(inner, io.EOF))
	if KindOf(outer) != errdefs.ErrUnavailable {
		t.Errorf("the outermost kind counts: %v", KindOf(outer))
	}
	for _, target := range []error{errdefs.ErrUnavailable, errdefs.ErrNotFound, io.EOF} {
		if !errors.Is(outer, target) {
			t.Errorf("%v is lost", target)
		}
	}
	if got := inner.Error(); got != `there is no image "x"` {
		t.Errorf("the kind is in the text: %s", got)
	}
	if KindOf(io.EOF) != nil || KindOf(nil) != nil {
		t.Error("a plain error has no kind")
	}
}

func TestContainerState(t *testing.T) {
	started, exit := &Started{}, &Exit{Code: 1}
	for _, c := range []struct {
		facts Facts
		want  ContainerState
	}{
		{Facts{}, ContainerCreated},
		{Facts{Status: ContainerStatus{StartingAt: 1}}, ContainerCreated},
		{Facts{Started: started}, ContainerRunning},
		{Facts{Started: started, Exit: exit}, ContainerExited},
		{Facts{Status: ContainerStatus{Lost: exit}}, ContainerExited},
	} {
		if got := c.facts.State(); got != c.want {
			t.Errorf("%+v: %s", c.facts, got)
		}
	}
	both := Facts{Exit: exit, Status: ContainerStatus{Lost: &Exit{Code: 137}}}
	if both.Ended().Code != 1 {
		t.Error("the shim's own fact comes before the daemon's verdict")
	}
}

func TestSandboxState(t *testing.T) {
	for _, c := range []struct {
		s    SandboxStatus
		boot string
		want SandboxState
	}{
		{SandboxStatus{}, "b", SandboxNotReady},
		{SandboxStatus{ReadyAt: 1}, "b", SandboxReady},
		{SandboxStatus{ReadyAt: 1}, "another", SandboxNotReady},
		{SandboxStatus{ReadyAt: 1, StoppedAt: 2}, "b", SandboxNotReady},
	} {
		if got := c.s.State("b", c.boot); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestWhy(t *testing.T) {
	for want, e := range map[string]Exit{
		"Completed": {}, "Error": {Code: 1}, "OOMKilled": {Code: 137, OOMKilled: true}, "StartError": {Code: 128, Reason: "StartError"},
	} {
		if got := e.Why(); got != want {
			t.Errorf("%+v: %s", e, got)
		}
	}
}

func TestMetadataKeysDoNotCollide(t *testing.T) {
	a := Metadata{Name: "b_c", Namespace: "a"}
	b := Metadata{Name: "c", Namespace: "a_b"}
	c := Metadata{Name: `b"/"x`, Namespace: "a"}
	if a.Key() == b.Key() || a.Key() == c.Key() {
		t.Error("two pods, one key")
	}
}
