package cri_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// drain reads a stream to its end. It wants at least one item in each message, and no message above limit bytes.
func drain[M proto.Message, T any](t *testing.T, limit int, recv func() (M, error), items func(M) []T) (all []T, messages int) {
	t.Helper()
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return all, messages
		}
		if err != nil {
			t.Fatal(err)
		}
		messages++
		if n := proto.Size(m); n > limit || len(items(m)) == 0 {
			t.Errorf("a message of %d bytes with %d items", n, len(items(m)))
		}
		all = append(all, items(m)...)
	}
}

// once fails the test unless each id is there once.
func once[T interface{ GetId() string }](t *testing.T, all []T, want int) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range all {
		if seen[v.GetId()] {
			t.Fatalf("%s came twice", v.GetId())
		}
		seen[v.GetId()] = true
	}
	if len(seen) != want {
		t.Errorf("%d came, of %d", len(seen), want)
	}
}

// heavy is 4 KiB of annotations.
var heavy = map[string]string{"k": strings.Repeat("x", 4095)}

// TestMoreThanAMessageHolds has 5,000 of each with 4 KiB of annotations: the unary lists say which call has room, and
// that one delivers all.
func TestMoreThanAMessageHolds(t *testing.T) {
	const n = 5000
	d := open(t)
	d.runtime.Fill(n, nil, heavy)
	for i := range n {
		d.store.Add(spec.Image{ID: fmt.Sprintf("sha256:%064x", i), RepoTags: []string{strings.Repeat("t", 4096)}})
	}
	_, errPods := d.rt.ListPodSandbox(t.Context(), &v1.ListPodSandboxRequest{})
	_, errContainers := d.rt.ListContainers(t.Context(), &v1.ListContainersRequest{})
	_, errImages := d.images.ListImages(t.Context(), &v1.ListImagesRequest{})
	for call, err := range map[string]error{"StreamPodSandboxes": errPods, "StreamContainers": errContainers, "StreamImages": errImages} {
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), "call "+call) {
			t.Errorf("%s is not named: %v", call, err)
		}
	}
	const limit = 1<<20 + 64
	pods, err := d.rt.StreamPodSandboxes(t.Context(), &v1.StreamPodSandboxesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	allPods, messages := drain(t, limit, pods.Recv, (*v1.StreamPodSandboxesResponse).GetPodSandboxes)
	once(t, allPods, n)
	containers, err := d.rt.StreamContainers(t.Context(), &v1.StreamContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	allContainers, more := drain(t, limit, containers.Recv, (*v1.StreamContainersResponse).GetContainers)
	once(t, allContainers, n)
	images, err := d.images.StreamImages(t.Context(), &v1.StreamImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	allImages, _ := drain(t, limit, images.Recv, (*v1.StreamImagesResponse).GetImages)
	once(t, allImages, n)
	if a := allContainers[0].Annotations["k"]; a != heavy["k"] {
		t.Errorf("annotations of %d bytes", len(a))
	}
	t.Logf("%d pods in %d messages, as many containers in %d", n, messages, more)
}

// TestStreamsSelectAsListsDo: the same filters, and an end of the stream without a message where nothing fits.
func TestStreamsSelectAsListsDo(t *testing.T) {
	d := open(t)
	_, id := d.container(t)
	d.container(t)
	for filter, want := range map[*v1.ContainerFilter]int{nil: 2, {Id: id[:12]}: 1, {Id: "none"}: 0} {
		s, err := d.rt.StreamContainers(t.Context(), &v1.StreamContainersRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		all, messages := drain(t, 4096, s.Recv, (*v1.StreamContainersResponse).GetContainers)
		if len(all) != want || messages > 1 || want == 0 && messages != 0 {
			t.Errorf("%v: %d containers in %d messages", filter, len(all), messages)
		}
	}
	bad, err := d.rt.StreamPodSandboxes(t.Context(), &v1.StreamPodSandboxesRequest{Filter: &v1.PodSandboxFilter{Id: "a\x00"}})
	if err == nil {
		_, err = bad.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a bad filter: %v", err)
	}
	unknown, err := d.images.StreamImages(t.Context(), &v1.StreamImagesRequest{Filter: &v1.ImageFilter{Image: &v1.ImageSpec{RuntimeHandler: "none"}}})
	if err == nil {
		_, err = unknown.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("an unknown handler: %v", err)
	}
}

// TestAStreamsRequestThatCannotBeParsed is the caller's mistake, as for every other call.
func TestAStreamsRequestThatCannotBeParsed(t *testing.T) {
	d := open(t)
	for _, name := range []string{"StreamPodSandboxes", "StreamContainers"} {
		s, err := d.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/runtime.v1.RuntimeService/"+name, grpc.ForceCodec(rawBytes{}))
		if err == nil {
			err = s.SendMsg([]byte{0xff, 0xff, 0xff})
		}
		if err == nil {
			err = s.CloseSend()
		}
		var out []byte
		if err == nil {
			err = s.RecvMsg(&out)
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rawBytes sends bytes as they are.
type rawBytes struct{}

func (rawBytes) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawBytes) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (rawBytes) Name() string                    { return "proto" }

// TestChunksAreFull: pure, of all shapes.
func TestChunksAreFull(t *testing.T) {
	for name, sizes := range map[string][]int{
		"none": nil, "one": {10}, "one that is larger than a chunk": {3 << 20},
		"large between small": {10, 2 << 20, 10, 10, 2 << 20, 10},
		"just at the edge":    {1<<20 - 20, 1<<20 - 20, 4},
	} {
		var got []int
		sent := 0
		if err := cri.InChunks(sizes, func(items []*v1.Container) error {
			size := 0
			for _, c := range items {
				got = append(got, len(c.Image.Image))
				size += proto.Size(c) + 6
			}
			if len(items) == 0 || len(items) > 1 && size > 1<<20 {
				t.Errorf("%s: a message of %d items, %d bytes", name, len(items), size)
			}
			sent++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(sizes) && len(sizes) > 0 || sent > len(sizes) {
			t.Errorf("%s: %v came, of %v", name, got, sizes)
		}
	}
	var many []int
	for range 2000 {
		many = append(many, 1)
	}
	sent := 0
	planted := errors.New("planted")
	err := cri.InChunks(many, func(items []*v1.Container) error {
		if sent++; sent == 3 {
			return planted
		}
		if len(items) != 512 {
			t.Errorf("%d items", len(items))
		}
		return nil
	})
	if !errors.Is(err, planted) || sent != 3 {
		t.Errorf("a reader that left was sent %d messages: %v", sent, err)
	}
}
