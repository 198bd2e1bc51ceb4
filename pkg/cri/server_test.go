package cri_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// served are the RPCs of this release, as its documentation lists them.
var served = strings.Fields(`
	Version
	Status
	RuntimeConfig
	UpdateRuntimeConfig
	RunPodSandbox
	StopPodSandbox
	RemovePodSandbox
	PodSandboxStatus
	ListPodSandbox
	CreateContainer
	StartContainer
	StopContainer
	RemoveContainer
	ContainerStatus
	ListContainers
	ReopenContainerLog
	ExecSync
	Exec
	Attach
	PortForward
	PullImage
	ListImages
	ImageStatus
	RemoveImage
	ImageFsInfo
	StreamPodSandboxes
	StreamContainers
	StreamImages
	GetContainerEvents
	UpdateContainerResources
	UpdatePodSandboxResources
	ContainerStats
	ListContainerStats
	StreamContainerStats
	PodSandboxStats
	ListPodSandboxStats
	StreamPodSandboxStats
	ListMetricDescriptors
	ListPodSandboxMetrics
	StreamPodSandboxMetrics
`)

// methods calls f for every method of the CRI with its name on the wire and an empty request.
func methods(t *testing.T, f func(full, name string, stream bool, req, resp proto.Message)) {
	t.Helper()
	file := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
	for i := range file.Services().Len() {
		s := file.Services().Get(i)
		for j := range s.Methods().Len() {
			m := s.Methods().Get(j)
			f(fmt.Sprintf("/%s/%s", s.FullName(), m.Name()), string(m.Name()), m.IsStreamingServer(), message(t, m.Input()), message(t, m.Output()))
		}
	}
}

func message(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	m, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return m.New().Interface()
}

// TestEveryRPCIsServedOrSaysWhyNot asks each with an empty message.
func TestEveryRPCIsServedOrSaysWhyNot(t *testing.T) {
	d := open(t)
	want := map[string]bool{}
	for _, name := range served {
		want[name] = true
	}
	all := 0
	methods(t, func(full, name string, stream bool, req, resp proto.Message) {
		all++
		var err error
		if stream {
			var s grpc.ClientStream
			if s, err = d.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, full); err != nil {
				t.Fatal(err)
			}
			if err = s.SendMsg(req); err == nil {
				err = s.CloseSend()
			}
			if name == "GetContainerEvents" && err == nil {
				_, err = s.Header() // it never ends
			} else if err == nil {
				err = s.RecvMsg(resp)
			}
		} else {
			err = d.conn.Invoke(t.Context(), full, req, resp)
		}
		code := status.Code(err)
		if want[name] {
			if stream && errors.Is(err, io.EOF) {
				return // a list of nothing
			}
			if code != codes.OK && code != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
		if code != codes.Unimplemented || !strings.Contains(err.Error(), "runtimed does not serve "+name+": ") {
			t.Errorf("%s is not served: %v", name, err)
		}
		if !strings.Contains(d.log.String(), "rpc="+name+" ") {
			t.Errorf("%s has no line in the log", name)
		}
	})
	if all != 43 {
		t.Errorf("the CRI has %d RPCs; sort the new ones in", all)
	}
}

// TestNilMessagesNeverPanic sends every request with its nested messages set one after the other, and each empty.
func TestNilMessagesNeverPanic(t *testing.T) {
	d := open(t)
	n := 0
	methods(t, func(full, name string, stream bool, req, resp proto.Message) {
		if stream {
			return
		}
		var walk func(m protoreflect.Message, depth int)
		walk = func(m protoreflect.Message, depth int) {
			fields := m.Descriptor().Fields()
			for i := range fields.Len() {
				f := fields.Get(i)
				if f.Message() == nil || f.IsMap() || depth > 5 {
					continue
				}
				var child protoreflect.Message
				if f.IsList() {
					child = m.Mutable(f).List().AppendMutable().Message()
				} else {
					child = m.Mutable(f).Message()
				}
				n++
				if err := d.conn.Invoke(t.Context(), full, req, resp); status.Code(err) == codes.Internal || status.Code(err) == codes.Unavailable {
					t.Errorf("%s with %s: %v", name, f.FullName(), err)
				}
				walk(child, depth+1)
				m.Clear(f)
			}
		}
		walk(req.ProtoReflect(), 0)
	})
	if strings.Contains(d.log.String(), "panic") {
		t.Error("a call panicked")
	}
	t.Logf("%d messages", n)
}

func TestKindsBecomeCodes(t *testing.T) {
	d := open(t)
	for _, tc := range []struct {
		err  error
		want codes.Code
	}{
		{spec.Invalidf("x"), codes.InvalidArgument},
		{spec.NotFoundf("x"), codes.NotFound},
		{spec.Preconditionf("x"), codes.FailedPrecondition},
		{spec.Errorf(errdefs.ErrAlreadyExists, "x"), codes.AlreadyExists},
		{spec.Errorf(errdefs.ErrPermissionDenied, "x"), codes.PermissionDenied},
		{spec.Errorf(errdefs.ErrResourceExhausted, "x"), codes.ResourceExhausted},
		{spec.Errorf(errdefs.ErrAborted, "x"), codes.Aborted},
		{spec.Errorf(errdefs.ErrOutOfRange, "x"), codes.OutOfRange},
		{spec.Errorf(errdefs.ErrNotImplemented, "x"), codes.Unimplemented},
		{spec.Errorf(errdefs.ErrInternal, "x"), codes.Internal},
		{spec.Errorf(errdefs.ErrUnavailable, "x"), codes.Unavailable},
		{spec.Errorf(errdefs.ErrDataLoss, "x"), codes.DataLoss},
		{spec.Errorf(errdefs.ErrUnauthenticated, "x"), codes.Unauthenticated},
		{spec.Errorf(errdefs.ErrConflict, "x"), codes.FailedPrecondition},
		{spec.Errorf(errdefs.ErrUnknown, "x"), codes.Unknown},
		{spec.Errorf(errdefs.ErrUnavailable, "x: %w", spec.NotFoundf("y")), codes.Unavailable},
		{fmt.Errorf("step: %w", spec.Preconditionf("x")), codes.FailedPrecondition},
		{fmt.Errorf("x: %w", errdefs.ErrAborted), codes.Aborted},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled},
		{errors.New("x"), codes.Unknown},
		{spec.Errorf(errdefs.ErrUnknown, "SignatureValidationFailed: x"), codes.Unknown},
	} {
		d.runtime.Hook = func(context.Context, string) error { return tc.err }
		_, err := d.rt.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: "a"})
		if s := status.Convert(err); s.Code() != tc.want || s.Message() != tc.err.Error() {
			t.Errorf("%v becomes %v, want %v", tc.err, err, tc.want)
		}
	}
}

// TestDeadlineOfTheCaller: a pull that breaks off because its caller's time is over is DeadlineExceeded, whatever kind
// the error has got on its way.
func TestDeadlineOfTheCaller(t *testing.T) {
	d := open(t)
	d.store.Hook = func(ctx context.Context, _ string, _ spec.PullRequest) error {
		<-ctx.Done()
		return spec.Errorf(errdefs.ErrUnavailable, "registry: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.images.PullImage(ctx, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "x"}})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("pull: %v", err)
	}
	// A client whose time is over cancels, and often before this side's own clock says so.
	eventually(t, func() bool {
		return strings.Contains(d.log.String(), "code=DeadlineExceeded") || strings.Contains(d.log.String(), "code=Canceled")
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happened")
		}
	}
}

func TestPanicIsInternal(t *testing.T) {
	d := open(t)
	d.runtime.Hook = func(_ context.Context, method string) error { panic("boom in " + method) }
	_, err := d.rt.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: "abc"})
	s := status.Convert(err)
	if s.Code() != codes.Internal || strings.Contains(s.Message(), "boom") || !strings.Contains(s.Message(), "StartContainer") {
		t.Errorf("caller sees %v", err)
	}
	log := d.log.String()
	for _, want := range []string{"level=ERROR", "boom in StartContainer", "runtime.gopanic", "code=Internal", "container=abc"} {
		if !strings.Contains(log, want) && !strings.Contains(log, strings.ReplaceAll(want, "runtime.gopanic", "panic(")) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	d.runtime.Hook = nil
	if _, err := d.rt.Version(t.Context(), &v1.VersionRequest{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSecretsAreHidden plants a secret in every field and has it repeated by an error and a panic.
func TestSecretsAreHidden(t *testing.T) {
	const secret = "hunter2-sEcReT"
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + secret + "A"))
	req := &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "x"}, Auth: &v1.AuthConfig{
		Username: "user", Password: secret + "P", Auth: auth, IdentityToken: secret + "I", RegistryToken: secret + "R",
	}}
	texts := []string{
		secret + "P", secret + "I", secret + "R", secret + "A", auth, "Basic " + auth,
		base64.StdEncoding.EncodeToString([]byte("user:" + secret + "P")), "https://user:" + secret + "P@registry/",
	}
	d := open(t)
	for _, text := range texts {
		for _, end := range []func() error{
			func() error { return errors.New("registry says: " + text) },
			func() error { return spec.Errorf(errdefs.ErrUnauthenticated, "registry says: %s", text) },
			func() error { panic("registry says: " + text) },
		} {
			d.store.Hook = func(_ context.Context, _ string, r spec.PullRequest) error {
				if r.Auth.Password != secret+"P" {
					t.Errorf("the store gets %q", r.Auth.Password)
				}
				return end()
			}
			_, err := d.images.PullImage(t.Context(), req)
			if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), auth) {
				t.Errorf("caller sees %v", err)
			}
		}
	}
	for _, hidden := range append(texts[:5], base64.StdEncoding.EncodeToString([]byte("user:"+secret+"P"))) {
		if strings.Contains(d.log.String(), hidden) {
			t.Errorf("log shows %s", hidden)
		}
	}
	if !strings.Contains(d.log.String(), "(hidden)") {
		t.Error("nothing was hidden: the test is blind")
	}
}

// TestLogLines: one line a call, and nobody can forge one.
func TestLogLines(t *testing.T) {
	d := open(t)
	sandbox := d.sandbox(t)
	d.rt.StopPodSandbox(t.Context(), &v1.StopPodSandboxRequest{PodSandboxId: "evil\nlevel=ERROR msg=forged\x1b[2J"})
	d.rt.ContainerStatus(t.Context(), &v1.ContainerStatusRequest{ContainerId: strings.Repeat("x", 1000)})
	log := d.log.String()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != 3 || strings.Contains(log, "\x1b") {
		t.Errorf("log is\n%s", log)
	}
	for _, want := range []string{"rpc=RunPodSandbox sandbox=" + sandbox + " name=default/web code=OK duration="} {
		if !strings.Contains(lines[0], want) || !strings.Contains(lines[0], "level=INFO") {
			t.Errorf("line lacks %q: %s", want, lines[0])
		}
	}
	if len(lines[2]) > 600 {
		t.Errorf("line of %d bytes", len(lines[2]))
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	return proto.Marshal(v.(proto.Message))
}
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (rawCodec) Name() string                    { return "proto" }

func TestWhatCannotBeParsedIsTheCallersMistake(t *testing.T) {
	d := open(t)
	for name, b := range map[string][]byte{
		"invalid UTF-8":   {0x0a, 2, 0xff, 0xfe},
		"cut off":         {0x0a, 50, 'x'},
		"wrong wire type": {0x0f},
		"huge length":     {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		for _, method := range []string{"/runtime.v1.RuntimeService/StopPodSandbox", "/runtimed.control.v1.Control/Signal"} {
			err := d.conn.Invoke(t.Context(), method, b, &v1.StopPodSandboxResponse{}, grpc.ForceCodec(rawCodec{}))
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s, %s: %v", method, name, err)
			}
		}
	}
	if n := strings.Count(d.log.String(), "code=InvalidArgument"); n != 8 {
		t.Errorf("%d lines in the log, want 8:\n%s", n, d.log.String())
	}
}

// TestStopLetsCallsFinish: the call in flight is answered, new ones are refused.
func TestStopLetsCallsFinish(t *testing.T) {
	d := open(t)
	inside, release := make(chan struct{}), make(chan struct{})
	d.runtime.Hook = func(context.Context, string) error { close(inside); <-release; return nil }
	answer := make(chan error, 1)
	go func() { _, err := d.rt.RunPodSandbox(context.Background(), pod()); answer <- err }()
	<-inside
	stopped := make(chan struct{})
	go func() { d.server.Stop(context.Background()); close(stopped) }()
	eventually(t, func() bool {
		_, err := v1.NewRuntimeServiceClient(dial(t, d.socket)).Version(t.Context(), &v1.VersionRequest{})
		return status.Code(err) == codes.Unavailable
	})
	select {
	case <-stopped:
		t.Fatal("Stop returns before the call is finished")
	default:
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("call in flight: %v", err)
	}
	<-stopped
}

// TestStopBreaksOff what takes too long, and waits until its handler has left.
func TestStopBreaksOff(t *testing.T) {
	d := open(t)
	inside := make(chan struct{})
	var left atomic.Bool
	d.runtime.Hook = func(ctx context.Context, _ string) error {
		close(inside)
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
		left.Store(true)
		return ctx.Err()
	}
	answer := make(chan error, 1)
	go func() { _, err := d.rt.RunPodSandbox(context.Background(), pod()); answer <- err }()
	<-inside
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.server.Stop(ctx)
	if !left.Load() {
		t.Error("a handler runs on after Stop")
	}
	if err := <-answer; err == nil {
		t.Error("the call was answered")
	}
}

// TestServedListIsWhole keeps this file's list and the handlers together.
func TestServedListIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range served {
		if seen[name] {
			t.Errorf("%s is listed twice", name)
		}
		seen[name] = true
	}
	methods(t, func(_, name string, _ bool, _, _ proto.Message) { delete(seen, name) })
	for name := range seen {
		t.Errorf("the CRI has no %s", name)
	}
}
