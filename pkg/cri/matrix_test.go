package cri_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// call makes one call, of either kind, and reads it to its end; events are read to their header.
func (d *door) call(ctx context.Context, full string, stream bool, req, resp proto.Message) error {
	if !stream {
		return d.conn.Invoke(ctx, full, req, resp)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := d.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err == nil {
		err = errors.Join(s.SendMsg(req), s.CloseSend())
	}
	if err != nil {
		return err
	}
	if strings.HasSuffix(full, "/GetContainerEvents") {
		_, err = s.Header()
		return err
	}
	for {
		if err := s.RecvMsg(resp); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var loggedCode = regexp.MustCompile(` code=(\w+)`)

// answered is the code that the server has logged for a call: also of one whose caller has left.
func (d *door) answered(t *testing.T, rpc string, seen int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		lines := d.lines(rpc)
		if len(lines) > seen {
			return loggedCode.FindStringSubmatch(lines[len(lines)-1])[1]
		}
	}
	t.Fatalf("%s is not in the log", rpc)
	return ""
}

func (d *door) lines(rpc string) (out []string) {
	for line := range strings.Lines(d.log.String()) {
		if strings.Contains(line, " rpc="+rpc+" ") && loggedCode.MatchString(line) {
			out = append(out, line)
		}
	}
	return out
}

// asked is a good request of an RPC about these objects.
func asked(req proto.Message, sandbox, container, image string) proto.Message {
	switch r := req.(type) {
	case *v1.RunPodSandboxRequest:
		return pod()
	case *v1.CreateContainerRequest:
		return ctr(sandbox)
	case *v1.ExecSyncRequest:
		r.Cmd = []string{"true"}
	case *v1.ExecRequest:
		r.Cmd, r.Stdout = []string{"true"}, true
	case *v1.AttachRequest:
		r.Stdout = true
	}
	m := req.ProtoReflect()
	for name, id := range map[protoreflect.Name]string{"pod_sandbox_id": sandbox, "container_id": container} {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			m.Set(f, protoreflect.ValueOfString(id))
		}
	}
	if f := m.Descriptor().Fields().ByName("image"); f != nil {
		m.Set(f, protoreflect.ValueOfMessage((&v1.ImageSpec{Image: image}).ProtoReflect()))
	}
	return req
}

// about tells whether the request names an object.
func about(req proto.Message) bool {
	for _, name := range []protoreflect.Name{"pod_sandbox_id", "container_id", "image"} {
		if req.ProtoReflect().Descriptor().Fields().ByName(name) != nil {
			return true
		}
	}
	return false
}

// objects are a sandbox and a container in a state that most calls cannot be served in: stopped, and ended. What CreateContainer and
// RunPodSandbox find is a stopped sandbox with the same name.
func (d *door) objects(t *testing.T) (sandbox, container string) {
	t.Helper()
	sandbox, container = d.container(t)
	if err := d.runtime.StopSandbox(t.Context(), sandbox); err != nil {
		t.Fatal(err)
	}
	return sandbox, container
}

const nobody = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

// cells are the columns of the matrix: what each RPC answers. "–" is a case that the RPC does not have.
var cells = []struct {
	name string
	code func(t *testing.T, full, rpc string, stream bool, req, resp proto.Message) string
}{
	{"object is missing", func(t *testing.T, full, rpc string, stream bool, req, resp proto.Message) string {
		if !about(req) || rpc == "PullImage" {
			return "–"
		}
		d := open(t)
		d.call(t.Context(), full, stream, asked(req, nobody, nobody, "nobody:1"), resp)
		return d.answered(t, rpc, 0)
	}},
	{"object is stopped or ended", func(t *testing.T, full, rpc string, stream bool, req, resp proto.Message) string {
		if !about(req) && rpc != "RunPodSandbox" || req.ProtoReflect().Descriptor().Fields().ByName("image") != nil {
			return "–"
		}
		d := open(t)
		sandbox, container := d.objects(t)
		seen := len(d.lines(rpc))
		d.call(t.Context(), full, stream, asked(req, sandbox, container, ""), resp)
		return d.answered(t, rpc, seen)
	}},
	{"caller leaves", func(t *testing.T, full, rpc string, stream bool, req, resp proto.Message) string {
		d := open(t)
		sandbox, container := d.container(t)
		seen := len(d.lines(rpc))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		leave := func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }
		d.runtime.Hook = func(ctx context.Context, _ string) error { return leave(ctx) }
		d.store.Hook = func(ctx context.Context, _ string, _ spec.PullRequest) error { return leave(ctx) }
		d.call(ctx, full, stream, asked(req, sandbox, container, "nobody:1"), resp)
		return d.answered(t, rpc, seen)
	}},
	{"request is empty", func(t *testing.T, full, rpc string, stream bool, req, resp proto.Message) string {
		d := open(t)
		err := d.call(t.Context(), full, stream, req, resp)
		if rpc == "GetContainerEvents" && err == nil {
			return "OK" // it never ends: that the caller leaves then is logged
		}
		return d.answered(t, rpc, 0)
	}},
}

// errorMatrix is made by asking the real server, in front of stand-ins that answer as what they stand for.
func errorMatrix(t *testing.T) string {
	t.Helper()
	b := &strings.Builder{}
	b.WriteString("| RPC |")
	for _, c := range cells {
		fmt.Fprintf(b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(cells)) + "\n")
	methods(t, func(full, rpc string, stream bool, req, resp proto.Message) {
		fmt.Fprintf(b, "| %s |", rpc)
		for _, c := range cells {
			code := ""
			t.Run(rpc+" "+c.name, func(t *testing.T) { code = c.code(t, full, rpc, stream, proto.Clone(req), proto.Clone(resp)) })
			fmt.Fprintf(b, " %s |", code)
		}
		b.WriteString("\n")
	})
	return b.String()
}
