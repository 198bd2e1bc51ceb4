package fake

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Images implements cri.Images.
type Images struct {
	// Hook is called first by every method with its name and, of Pull, the request. Nil does nothing.
	Hook func(ctx context.Context, method string, r spec.PullRequest) error

	mu   sync.Mutex
	have []spec.Image
}

func (s *Images) enter(ctx context.Context, method string, r spec.PullRequest) error {
	if s.Hook == nil {
		return nil
	}
	return s.Hook(ctx, method, r)
}

// Add makes an image known.
func (s *Images) Add(i spec.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = append(s.have, i)
}

// Pull makes an image known under the reference, as a tag.
func (s *Images) Pull(ctx context.Context, r spec.PullRequest) (string, error) {
	if err := s.enter(ctx, "Pull", r); err != nil {
		return "", err
	}
	i := spec.Image{ID: "sha256:" + strings.Repeat("1", 64), RepoTags: []string{r.Ref}, Size: 4096, Config: spec.ImageConfig{User: "65534:65534"}}
	s.Add(i)
	return i.ID, nil
}

func named(i spec.Image, ref string) bool {
	return slices.Contains(i.RepoTags, ref) || slices.Contains(i.RepoDigests, ref) || i.ID == ref ||
		len(ref) > 3 && strings.HasPrefix(strings.TrimPrefix(i.ID, "sha256:"), ref)
}

// List returns what ref names.
func (s *Images) List(ctx context.Context, ref string) ([]spec.Image, error) {
	if err := s.enter(ctx, "List", spec.PullRequest{}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []spec.Image
	for _, i := range s.have {
		if ref == "" || named(i, ref) {
			out = append(out, i)
		}
	}
	return out, nil
}

// Get returns one.
func (s *Images) Get(ctx context.Context, ref string) (spec.Image, error) {
	if err := s.enter(ctx, "Get", spec.PullRequest{}); err != nil {
		return spec.Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.have {
		if named(i, ref) {
			return i, nil
		}
	}
	return spec.Image{}, spec.NotFoundf("there is no image %q", ref)
}

// Remove forgets what ref names.
func (s *Images) Remove(ctx context.Context, ref string) error {
	if err := s.enter(ctx, "Remove", spec.PullRequest{}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.have)
	s.have = slices.DeleteFunc(s.have, func(i spec.Image) bool { return named(i, ref) })
	if len(s.have) == before {
		return spec.NotFoundf("there is no image %q", ref)
	}
	return nil
}

// FsInfo says the root file system.
func (s *Images) FsInfo(ctx context.Context) (spec.FsInfo, error) {
	if err := s.enter(ctx, "FsInfo", spec.PullRequest{}); err != nil {
		return spec.FsInfo{}, err
	}
	return spec.FsInfo{Mountpoint: "/", UsedBytes: 4096, Inodes: 1, Timestamp: time.Now().UnixNano()}, nil
}
