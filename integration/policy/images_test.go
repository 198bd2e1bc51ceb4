package policy

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

// One image answers to every name of it, with one id, which is what a pull returned and what a container's status has.
func TestImageNames(t *testing.T) {
	d := started(t, cri)
	ctx := daemontest.Ctx(t)
	spec := &v1.ImageSpec{Image: d.Image, UserSpecifiedImage: "what-the-user-wrote:1", Annotations: map[string]string{"a": "b"}}
	pulled, err := d.Conn().Images.PullImage(ctx, &v1.PullImageRequest{Image: spec})
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Conn().Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: pulled.ImageRef}})
	if err != nil || first.Image == nil || first.Image.Id != pulled.ImageRef || len(first.Image.RepoDigests) == 0 {
		t.Fatalf("%v, %v", first, err)
	}
	for _, name := range append([]string{d.Image, pulled.ImageRef[:7+13], pulled.ImageRef[7 : 7+13]}, first.Image.RepoDigests...) {
		s, err := d.Conn().Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: name}})
		if err != nil || s.Image.GetId() != pulled.ImageRef || len(s.Image.RepoTags) != 1 || s.Image.RepoTags[0] != d.Image {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if s, err := d.Conn().Images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "nowhere.example/none:1"}}); err != nil || s.Image != nil {
		t.Errorf("what is not there is no image and no error: %v, %v", s, err)
	}
	id, p := pod(d, "names", nil)
	c := d.ContainerConfig("main", "true")
	c.Image = &v1.ImageSpec{Image: pulled.ImageRef, UserSpecifiedImage: "what-the-user-wrote:1"}
	s := d.Status(d.Create(id, p, c))
	if s.ImageId != pulled.ImageRef || s.Image.GetImage() != "what-the-user-wrote:1" || s.ImageRef == "" {
		t.Errorf("its container's status: %v %s %s", s.Image, s.ImageRef, s.ImageId)
	}
}

// A runtime handler that is not there is refused, with whichever call it comes; the default has an empty name.
func TestImageHandlers(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Config: cri})
	d.Pull()
	images, ctx := d.Conn().Images, daemontest.Ctx(t)
	for handler, want := range map[string]codes.Code{"": codes.OK, "kata": codes.NotFound} {
		spec := &v1.ImageSpec{Image: d.Image, RuntimeHandler: handler}
		_, pull := images.PullImage(ctx, &v1.PullImageRequest{Image: spec})
		_, stat := images.ImageStatus(ctx, &v1.ImageStatusRequest{Image: spec})
		_, list := images.ListImages(ctx, &v1.ListImagesRequest{Filter: &v1.ImageFilter{Image: spec}})
		_, remove := images.RemoveImage(ctx, &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "none:1", RuntimeHandler: handler}})
		for call, err := range map[string]error{"PullImage": pull, "ImageStatus": stat, "ListImages": list, "RemoveImage": remove} {
			if status.Code(err) != want {
				t.Errorf("%s with handler %q: %v", call, handler, err)
			}
		}
	}
	late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := images.PullImage(late, &v1.PullImageRequest{Image: &v1.ImageSpec{Image: d.Image}}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a pull whose time is over: %v", err)
	}
}
