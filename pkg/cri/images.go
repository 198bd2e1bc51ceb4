package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/translate"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// imageService serves v1.ImageService. It needs the Runtime to know which handlers there are.
type imageService struct {
	v1.UnimplementedImageServiceServer
	images  Images
	runtime Runtime
}

// handled refuses a runtime handler that is not there, as the CRI asks; all share one store.
func (s *imageService) handled(ctx context.Context, i *v1.ImageSpec) error {
	name := i.GetRuntimeHandler()
	if name == "" {
		return nil
	}
	for _, h := range s.runtime.Status(ctx, false).Handlers {
		if h.Name == name {
			return nil
		}
	}
	return spec.NotFoundf("image.runtime_handler %s is not known here", translate.Shown(name))
}

func (s *imageService) PullImage(ctx context.Context, r *v1.PullImageRequest) (*v1.PullImageResponse, error) {
	req, err := translate.Pull(r)
	if err != nil {
		return nil, err
	}
	if err := s.handled(ctx, r.GetImage()); err != nil {
		return nil, err
	}
	id, err := s.images.Pull(ctx, req)
	if err != nil {
		return nil, err
	}
	return &v1.PullImageResponse{ImageRef: id}, nil
}

func (s *imageService) ListImages(ctx context.Context, r *v1.ListImagesRequest) (*v1.ListImagesResponse, error) {
	images, err := s.list(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	out := &v1.ListImagesResponse{}
	for _, i := range images {
		out.Images = append(out.Images, translate.Image(i))
	}
	return out, nil
}

func (s *imageService) list(ctx context.Context, f *v1.ImageFilter) ([]spec.Image, error) {
	ref, err := translate.ImageFilter(f)
	if err != nil {
		return nil, err
	}
	if err := s.handled(ctx, f.GetImage()); err != nil {
		return nil, err
	}
	images, err := s.images.List(ctx, ref)
	if err != nil && !missing(err) {
		return nil, err
	}
	return images, nil
}

// ImageStatus: what is not there is no image and no error.
func (s *imageService) ImageStatus(ctx context.Context, r *v1.ImageStatusRequest) (*v1.ImageStatusResponse, error) {
	ref, err := translate.ImageRef(r.GetImage())
	if err != nil {
		return nil, err
	}
	if err := s.handled(ctx, r.GetImage()); err != nil {
		return nil, err
	}
	image, err := s.images.Get(ctx, ref)
	if missing(err) {
		return &v1.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &v1.ImageStatusResponse{Image: translate.Image(image)}
	if r.GetVerbose() {
		out.Info, err = translate.ImageInfo(image)
	}
	return out, err
}

// RemoveImage: what is not there is removed.
func (s *imageService) RemoveImage(ctx context.Context, r *v1.RemoveImageRequest) (*v1.RemoveImageResponse, error) {
	ref, err := translate.ImageRef(r.GetImage())
	if err != nil {
		return nil, err
	}
	if err := s.handled(ctx, r.GetImage()); err != nil {
		return nil, err
	}
	if err := s.images.Remove(ctx, ref); err != nil && !missing(err) {
		return nil, err
	}
	return &v1.RemoveImageResponse{}, nil
}

func (s *imageService) ImageFsInfo(ctx context.Context, _ *v1.ImageFsInfoRequest) (*v1.ImageFsInfoResponse, error) {
	use, err := s.images.FsInfo(ctx)
	if err != nil {
		return nil, err
	}
	return translate.FsInfo(use), nil
}
