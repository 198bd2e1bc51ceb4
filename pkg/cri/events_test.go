package cri_test

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// TestEventsCarryThePod: what the kubelet's evented PLEG needs is in each event, and is what the status says.
func TestEventsCarryThePod(t *testing.T) {
	d := open(t)
	sandbox, id := d.container(t)
	view, err := d.runtime.Sandbox(t.Context(), sandbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []spec.EventKind{spec.EventCreated, spec.EventStarted, spec.EventStopped, spec.EventDeleted} {
		d.runtime.EventsOf = append(d.runtime.EventsOf, spec.Event{Kind: k, ID: id, Sandbox: view})
	}
	want, err := d.rt.PodSandboxStatus(t.Context(), &v1.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.rt.GetContainerEvents(t.Context(), &v1.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []v1.ContainerEventType{v1.ContainerEventType_CONTAINER_CREATED_EVENT, v1.ContainerEventType_CONTAINER_STARTED_EVENT,
		v1.ContainerEventType_CONTAINER_STOPPED_EVENT, v1.ContainerEventType_CONTAINER_DELETED_EVENT} {
		e, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&v1.ContainerEventResponse{
			ContainerId: id, ContainerEventType: kind, CreatedAt: view.Timestamp.UnixNano(),
			PodSandboxStatus: want.Status, ContainersStatuses: want.ContainersStatuses,
		}, e, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if e.PodSandboxStatus.Metadata.GetUid() == "" || len(e.ContainersStatuses) != 1 {
			t.Errorf("%v", e)
		}
	}
}

func TestAnEventReaderIsToldWhyItEnds(t *testing.T) {
	d := open(t)
	ended := func(hook func()) error {
		s, err := d.rt.GetContainerEvents(t.Context(), &v1.GetEventsRequest{})
		if err != nil {
			return err
		}
		if hook != nil {
			if _, err := s.Header(); err != nil {
				t.Fatal(err)
			}
			hook()
		}
		_, err = s.Recv()
		return err
	}
	d.runtime.Hook = func(_ context.Context, method string) error {
		if method == "Events" {
			return spec.Errorf(errdefs.ErrResourceExhausted, "too slow")
		}
		return nil
	}
	if err := ended(nil); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a slow reader: %v", err)
	}
	d.runtime.Hook = nil
	// A reader does not hold up the end of the daemon, and learns that it may come back.
	begin := time.Now()
	err := ended(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		d.server.Stop(ctx)
	})
	if status.Code(err) != codes.Unavailable || time.Since(begin) > 25*time.Second {
		t.Errorf("the end of the daemon after %v: %v", time.Since(begin), err)
	}
}
