package cri_test

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/stream"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// sold remembers what addresses were asked for.
type sold struct{ last any }

func (s *sold) Exec(t stream.ExecTarget) (string, error) {
	s.last = t
	return "http://127.0.0.1:1/exec/x", nil
}

func (s *sold) Attach(t stream.AttachTarget) (string, error) {
	s.last = t
	return "http://127.0.0.1:1/attach/x", nil
}

func (s *sold) PortForward(t stream.PortForwardTarget) (string, error) {
	s.last = t
	return "http://127.0.0.1:1/portforward/x", nil
}

// streamed is a sandbox with a running container that has a terminal, and one that does not run.
func streamed(t *testing.T, d *door) (sandbox, running, created string) {
	t.Helper()
	sandbox, err := d.runtime.RunSandbox(t.Context(), spec.SandboxRequest{Metadata: spec.Metadata{Name: "streams"}})
	if err != nil {
		t.Fatal(err)
	}
	if running, err = d.runtime.CreateContainer(t.Context(), sandbox, spec.ContainerRequest{Name: "a", TTY: true}); err != nil {
		t.Fatal(err)
	}
	if created, err = d.runtime.CreateContainer(t.Context(), sandbox, spec.ContainerRequest{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	return sandbox, running, created
}

func TestStreamingAddressesAreForWhatWasAsked(t *testing.T) {
	d := open(t)
	sandbox, running, _ := streamed(t, d)
	if err := d.runtime.StartContainer(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	short := running[:13]
	for _, c := range []struct {
		ask  func() (string, error)
		want any
	}{
		{func() (string, error) {
			r, err := d.rt.Exec(t.Context(), &v1.ExecRequest{ContainerId: short, Cmd: []string{"a", "b"}, Tty: true, Stdin: true, Stdout: true})
			return r.GetUrl(), err
		}, stream.ExecTarget{ContainerID: running, Command: []string{"a", "b"}, Wanted: stream.Wanted{Stdin: true, Stdout: true, TTY: true}}},
		{func() (string, error) {
			r, err := d.rt.Attach(t.Context(), &v1.AttachRequest{ContainerId: short, Stderr: true})
			return r.GetUrl(), err
		}, stream.AttachTarget{ContainerID: running, TTY: true, Wanted: stream.Wanted{Stderr: true}}},
		{func() (string, error) {
			r, err := d.rt.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: sandbox[:13], Port: []int32{80, 65535}})
			return r.GetUrl(), err
		}, stream.PortForwardTarget{SandboxID: sandbox, Ports: []uint16{80, 65535}}},
	} {
		url, err := c.ask()
		if err != nil || !strings.HasSuffix(url, "/x") || !reflect.DeepEqual(d.sold.last, c.want) {
			t.Errorf("%T: %q, %v, for %+v", c.want, url, err, d.sold.last)
		}
		if strings.Contains(d.log.String(), "127.0.0.1:1") {
			t.Error("the log holds an address, which is a secret")
		}
	}
}

func TestStreamingCallsThatAreRefused(t *testing.T) {
	d := open(t)
	sandbox, running, created := streamed(t, d)
	if err := d.runtime.StartContainer(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	stopped, err := d.runtime.RunSandbox(t.Context(), spec.SandboxRequest{Metadata: spec.Metadata{Name: "stopped"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.runtime.StopSandbox(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	many := make([]int32, 65)
	for i := range many {
		many[i] = 1
	}
	for name, c := range map[string]struct {
		code codes.Code
		r    any
	}{
		"exec without a container": {codes.InvalidArgument, &v1.ExecRequest{Cmd: []string{"a"}, Stdout: true}},
		"exec in an unknown one":   {codes.NotFound, &v1.ExecRequest{ContainerId: "ffff", Cmd: []string{"a"}, Stdout: true}},
		"exec in a created one":    {codes.FailedPrecondition, &v1.ExecRequest{ContainerId: created, Cmd: []string{"a"}, Stdout: true}},
		"exec of nothing":          {codes.InvalidArgument, &v1.ExecRequest{ContainerId: running, Stdout: true}},
		"exec of an empty word":    {codes.InvalidArgument, &v1.ExecRequest{ContainerId: running, Cmd: []string{""}, Stdout: true}},
		"exec without streams":     {codes.InvalidArgument, &v1.ExecRequest{ContainerId: running, Cmd: []string{"a"}}},
		"exec, tty and stderr":     {codes.InvalidArgument, &v1.ExecRequest{ContainerId: running, Cmd: []string{"a"}, Tty: true, Stdout: true, Stderr: true}},
		"attach without streams":   {codes.InvalidArgument, &v1.AttachRequest{ContainerId: running}},
		"attach, tty and stderr":   {codes.InvalidArgument, &v1.AttachRequest{ContainerId: running, Tty: true, Stderr: true}},
		"attach to a created one":  {codes.FailedPrecondition, &v1.AttachRequest{ContainerId: created, Stdout: true}},
		"attach to an unknown one": {codes.NotFound, &v1.AttachRequest{ContainerId: "ffff", Stdout: true}},
		"forward from nowhere":     {codes.InvalidArgument, &v1.PortForwardRequest{}},
		"forward from unknown":     {codes.NotFound, &v1.PortForwardRequest{PodSandboxId: "ffff"}},
		"forward from a stopped":   {codes.FailedPrecondition, &v1.PortForwardRequest{PodSandboxId: stopped}},
		"forward port 0":           {codes.InvalidArgument, &v1.PortForwardRequest{PodSandboxId: sandbox, Port: []int32{0}}},
		"forward port 65536":       {codes.InvalidArgument, &v1.PortForwardRequest{PodSandboxId: sandbox, Port: []int32{65536}}},
		"forward many ports":       {codes.InvalidArgument, &v1.PortForwardRequest{PodSandboxId: sandbox, Port: many}},
	} {
		var err error
		switch r := c.r.(type) {
		case *v1.ExecRequest:
			_, err = d.rt.Exec(t.Context(), r)
		case *v1.AttachRequest:
			_, err = d.rt.Attach(t.Context(), r)
		case *v1.PortForwardRequest:
			_, err = d.rt.PortForward(t.Context(), r)
		}
		if status.Code(err) != c.code || d.sold.last != nil {
			t.Errorf("%s: %v, not %v", name, err, c.code)
		}
	}
}
