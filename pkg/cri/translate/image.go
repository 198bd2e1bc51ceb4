package translate

import (
	"strconv"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// reference checks that an image is named by one word. Its grammar is the image store's.
func (c *check) reference(field, s string) string {
	switch {
	case s == "":
		c.fail(field, "is missing")
	case strings.ContainsAny(c.text(field, s, maxReference), " \t"):
		c.fail(field, "%s holds a blank", shown(s))
	}
	return s
}

// ImageRef translates the image that ImageStatus and RemoveImage name.
func ImageRef(s *v1.ImageSpec) (string, error) {
	var c check
	return c.reference("image.image", s.GetImage()), c.err
}

// ImageFilter translates a filter; "" selects all images.
func ImageFilter(f *v1.ImageFilter) (string, error) {
	var c check
	if f.GetImage().GetImage() == "" {
		return "", nil
	}
	return c.reference("filter.image.image", f.GetImage().GetImage()), c.err
}

// Pull translates PullImage.
func Pull(r *v1.PullImageRequest) (spec.PullRequest, error) {
	var c check
	a := r.GetAuth()
	out := spec.PullRequest{
		Ref: c.reference("image.image", r.GetImage().GetImage()),
		Auth: spec.RegistryAuth{
			Username: a.GetUsername(), Password: a.GetPassword(), Auth: a.GetAuth(),
			ServerAddress: c.text("auth.server_address", a.GetServerAddress(), maxReference),
			IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken(),
		},
		Namespace: c.text("sandbox_config.metadata.namespace", r.GetSandboxConfig().GetMetadata().GetNamespace(), maxName),
	}
	for field, s := range map[string]string{
		"auth.username": out.Auth.Username, "auth.password": out.Auth.Password, "auth.auth": out.Auth.Auth,
		"auth.identity_token": out.Auth.IdentityToken, "auth.registry_token": out.Auth.RegistryToken,
	} {
		c.secret(field, s)
	}
	return out, c.err
}

// secret checks a header's part without ever showing it.
func (c *check) secret(field, s string) {
	if len(s) > maxArgument || strings.ContainsAny(s, "\r\n\x00") {
		c.fail(field, "is longer than %d bytes, or holds a newline or NUL", maxArgument)
	}
}

// Image translates a local image for ListImages and ImageStatus.
func Image(i spec.Image) *v1.Image {
	out := &v1.Image{
		Id: i.ID, RepoTags: i.RepoTags, RepoDigests: i.RepoDigests, Size: i.Size, Pinned: i.Pinned, Spec: &v1.ImageSpec{},
	}
	user, _, _ := strings.Cut(i.Config.User, ":")
	if n, err := strconv.ParseInt(user, 10, 64); err == nil && n >= 0 && n <= maxID {
		out.Uid = &v1.Int64Value{Value: n}
	} else {
		// A number that is no id is shown as a name: the kubelet refuses a name where it must know that it is not root.
		out.Username = user
	}
	return out
}

// FsInfo translates the use of the file system that holds images and containers' writable layers.
func FsInfo(f spec.FsInfo) *v1.ImageFsInfoResponse {
	usage := func() []*v1.FilesystemUsage {
		return []*v1.FilesystemUsage{{
			Timestamp:  f.Timestamp,
			FsId:       &v1.FilesystemIdentifier{Mountpoint: f.Mountpoint},
			UsedBytes:  &v1.UInt64Value{Value: f.UsedBytes},
			InodesUsed: &v1.UInt64Value{Value: f.Inodes},
		}}
	}
	return &v1.ImageFsInfoResponse{ImageFilesystems: usage(), ContainerFilesystems: usage()}
}
