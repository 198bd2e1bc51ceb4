package registry

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/image/trust"
)

func sample() registrytest.Image {
	return registrytest.Image{
		Config: registrytest.Config{Cmd: []string{"/bin/true"}},
		Layers: []registrytest.Layer{
			{Files: []registrytest.File{{Name: "bin/", Mode: 0o755}, {Name: "bin/true", Mode: 0o755, Body: bytes.Repeat([]byte("true"), 20000)}}, Compression: registrytest.None},
			{Files: []registrytest.File{{Name: "etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0::/:/bin/sh\n")}}},
		},
	}
}

func client(t *testing.T, c Config) *Client {
	t.Helper()
	if c.Backoff == 0 {
		c.Backoff = time.Millisecond
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// pull resolves ref, verifies it and fetches all there is.
func pull(t *testing.T, c *Client, ref string, a Auth) (*Image, [][]byte, error) {
	t.Helper()
	r, err := ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	img, err := c.Resolve(ctx, r, a)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(img.Close)
	v := verified(t, img)
	config, err := img.Config(ctx, v)
	if err != nil {
		return img, nil, err
	}
	blobs := [][]byte{config}
	for n := range v.Manifest().Layers {
		f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := img.Layer(ctx, v, n, f); err != nil {
			return img, nil, err
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, b)
	}
	return img, blobs, nil
}

func verified(t *testing.T, img *Image) trust.Verified {
	t.Helper()
	p, err := trust.NewPolicy("off")
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Verify(img.Subject())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantBlobs(t *testing.T, b registrytest.Built, got [][]byte) {
	t.Helper()
	if len(got) != 1+len(b.Layers) || !bytes.Equal(got[0], b.Config) {
		t.Fatalf("got %d blobs", len(got))
	}
	for i, d := range b.Layers {
		if !bytes.Equal(got[1+i], b.Blobs[d]) {
			t.Errorf("layer %d differs", i)
		}
	}
}

func TestPullEveryKind(t *testing.T) {
	for _, c := range []struct {
		name  string
		image func(*registrytest.Image)
	}{
		{"oci gzip", func(*registrytest.Image) {}},
		{"oci zstd", func(i *registrytest.Image) { i.Compression = registrytest.Zstd }},
		{"oci plain", func(i *registrytest.Image) { i.Compression = registrytest.None }},
		{"docker gzip", func(i *registrytest.Image) { i.Docker = true }},
		{"docker plain", func(i *registrytest.Image) { i.Docker, i.Compression = true, registrytest.None }},
		{"the same layer twice", func(i *registrytest.Image) { i.Layers = append(i.Layers, i.Layers[1]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := registrytest.New(t, registrytest.Options{})
			i := sample()
			c.image(&i)
			b := r.MustPush(t, "team/app:1", i)
			for _, ref := range []string{r.Ref("team/app:1"), r.Ref("team/app@" + b.Digest), r.Ref("team/app:other@" + b.Digest)} {
				img, blobs, err := pull(t, client(t, Config{}), ref, Auth{})
				if err != nil {
					t.Fatalf("%s: %v", ref, err)
				}
				if string(img.Root()) != b.Digest {
					t.Errorf("root %s", img.Root())
				}
				wantBlobs(t, b, blobs)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	built := func(arch string, docker bool) registrytest.Built {
		i := sample()
		i.Architecture, i.Docker = arch, docker
		b, err := i.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	amd, arm, other := built("amd64", false), built("arm64", false), built("s390x", false)
	for _, c := range []struct {
		name    string
		docker  bool
		entries []registrytest.Entry
		arch    string
		want    string
	}{
		{"by architecture", false, []registrytest.Entry{{Built: other, Architecture: "s390x"}, {Built: arm, Architecture: "arm64"}, {Built: amd, Architecture: "amd64"}}, "amd64", amd.Digest},
		{"docker list", true, []registrytest.Entry{{Built: built("amd64", true), Architecture: "amd64"}}, "amd64", built("amd64", true).Digest},
		{"plain variant wins", false, []registrytest.Entry{{Built: other, Architecture: "amd64", Variant: "v3"}, {Built: amd, Architecture: "amd64"}}, "amd64", amd.Digest},
		{"v8 is arm64", false, []registrytest.Entry{{Built: arm, Architecture: "arm64", Variant: "v8"}}, "arm64", arm.Digest},
		{"only entry, no platform", false, []registrytest.Entry{{Built: amd, OS: "-"}}, "amd64", amd.Digest},
		{"attestations are no images", false, []registrytest.Entry{{Built: other, OS: "unknown", Architecture: "unknown"}, {Built: amd, Architecture: "amd64"}}, "amd64", amd.Digest},
		{"newer processor", false, []registrytest.Entry{{Built: amd, Architecture: "amd64", Variant: "v4"}}, "amd64", ""},
		{"other system", false, []registrytest.Entry{{Built: amd, OS: "windows", Architecture: "amd64"}}, "amd64", ""},
		{"none", false, nil, "amd64", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := registrytest.New(t, registrytest.Options{})
			root, err := r.PushIndex("app:1", c.docker, c.entries...)
			if err != nil {
				t.Fatal(err)
			}
			img, _, err := pull(t, client(t, Config{Platform: content.Platform{OS: "linux", Architecture: c.arch}}), r.Ref("app:1"), Auth{})
			if c.want == "" {
				if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "not made for linux/"+c.arch) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || string(img.ManifestDocument().Digest) != c.want || string(img.Root()) != root || len(img.Documents) != 2 {
				t.Fatalf("got %+v, %v", img, err)
			}
		})
	}
}

func TestLayersNeedTheProofForThisImage(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.MustPush(t, "a:1", sample())
	other := sample()
	other.Config.User = "1000"
	r.MustPush(t, "b:1", other)
	c := client(t, Config{})
	a, _, err := pull(t, c, r.Ref("a:1"), Auth{})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := pull(t, c, r.Ref("b:1"), Auth{})
	if err != nil {
		t.Fatal(err)
	}
	r.Forget()
	for name, v := range map[string]trust.Verified{"none": {}, "another image's": verified(t, b)} {
		if _, err := a.Config(t.Context(), v); !errdefs.IsPermissionDenied(err) {
			t.Errorf("%s: config: %v", name, err)
		}
		if err := a.Layer(t.Context(), v, 0, nil); !errdefs.IsPermissionDenied(err) {
			t.Errorf("%s: layer: %v", name, err)
		}
	}
	if n := len(r.Requests()); n != 0 {
		t.Errorf("%d requests were sent without a proof", n)
	}
	if err := a.Layer(t.Context(), verified(t, a), 2, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a layer that is not there: %v", err)
	}
}

func TestMirror(t *testing.T) {
	origin := registrytest.New(t, registrytest.Options{Username: "u", Password: "origin-secret"})
	good := registrytest.New(t, registrytest.Options{})
	lying := registrytest.New(t, registrytest.Options{})
	dead := registrytest.New(t, registrytest.Options{})
	dead.Close()
	b := origin.MustPush(t, "app:1", sample())
	good.MustPush(t, "app:1", sample())
	lying.MustPush(t, "app:1", sample())
	lying.Intercept(registrytest.On("/blobs/", registrytest.Flip()))
	auth := Auth{Username: "u", Password: "origin-secret"}
	for _, c := range []struct {
		name    string
		mirrors []string
		origin  bool // serves anything
	}{
		{"serves all", []string{good.Host}, false},
		{"dead, then good", []string{dead.Host, good.Host}, false},
		{"dead", []string{dead.Host}, true},
		{"lying about blobs", []string{lying.Host}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			origin.Forget()
			cl := client(t, Config{Registries: map[string]Host{origin.Host: {Mirrors: c.mirrors}}, Retries: -1})
			img, blobs, err := pull(t, cl, origin.Ref("app:1"), auth)
			if err != nil {
				t.Fatal(err)
			}
			wantBlobs(t, b, blobs)
			if img.Subject().Repository != origin.Host+"/app" {
				t.Errorf("the subject is %q", img.Subject().Repository)
			}
			if got := len(origin.Requests()) > 0; got != c.origin {
				t.Errorf("origin asked: %v", got)
			}
		})
	}
	for _, m := range []*registrytest.Registry{good, lying} {
		for _, q := range m.Requests() {
			if q.Header.Get("Authorization") != "" {
				t.Fatalf("a mirror got %q", q.Header.Get("Authorization"))
			}
		}
	}
}

func TestTLS(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true})
	b := r.MustPush(t, "app:1", sample())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, r.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := pull(t, client(t, Config{Retries: -1}), r.Ref("app:1"), Auth{})
	if err == nil || !strings.HasPrefix(err.Error(), Unavailable) {
		t.Fatalf("an unknown authority: %v", err)
	}
	_, blobs, err := pull(t, client(t, Config{Registries: map[string]Host{r.Host: {CA: ca}}}), r.Ref("app:1"), Auth{})
	if err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, b, blobs)
}

func TestConfiguredAuthorityIsForItsHostAlone(t *testing.T) {
	a := registrytest.New(t, registrytest.Options{TLS: true})
	b := registrytest.New(t, registrytest.Options{TLS: true})
	a.MustPush(t, "app:1", sample())
	b.MustPush(t, "app:1", sample())
	a.Intercept(registrytest.On("/blobs/", registrytest.Redirect(307, b.URL)))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, a.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := pull(t, client(t, Config{Registries: map[string]Host{a.Host: {CA: ca}}, Retries: -1}), a.Ref("app:1"), Auth{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"registry with a path":   {Registries: map[string]Host{"r.example/a": {}}},
		"registry with a scheme": {Registries: map[string]Host{"https://r.example": {}}},
		"mirror with a scheme":   {Registries: map[string]Host{"r.example": {Mirrors: []string{"http://m.example"}}}},
		"relative ca":            {Registries: map[string]Host{"r.example": {CA: "ca.pem"}}},
		"relative helper":        {Registries: map[string]Host{"r.example": {CredentialHelper: "docker-credential-x"}}},
		"relative auth file":     {AuthFiles: []string{"auth.json"}},
		"negative timeout":       {ProgressTimeout: -1},
	} {
		if _, err := New(c); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := client(t, Config{Registries: map[string]Host{"r.example": {CA: "/nonexistent/ca.pem"}}})
	ref, _ := ParseReference("r.example/a")
	if _, err := c.Resolve(t.Context(), ref, Auth{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a ca that is not there: %v", err)
	}
}
