package trust

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func manifest(t *testing.T, seed string) content.Document {
	t.Helper()
	raw := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":%q},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1,"digest":%q}]}`,
		content.FromBytes([]byte("config"+seed)), content.FromBytes([]byte("layer"+seed)))
	d, err := content.Parse([]byte(raw), content.OCIManifest)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func index(t *testing.T, child content.Document) content.Document {
	t.Helper()
	raw := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`,
		child.MediaType, len(child.Raw), child.Digest)
	d, err := content.Parse([]byte(raw), content.OCIIndex)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPolicy(t *testing.T) {
	m := manifest(t, "a")
	other := manifest(t, "b")
	x := index(t, m)
	forged := m
	forged.Raw = append([]byte(" "), m.Raw...)
	for _, c := range []struct {
		name, mode string
		docs       []content.Document
		want       string // part of the error; "" accepts
	}{
		{"off, manifest", "off", []content.Document{m}, ""},
		{"off, index", "off", []content.Document{x, m}, ""},
		{"off, two indexes", "off", []content.Document{index(t, x), x, m}, ""},
		{"no policy", "", []content.Document{m}, `trust.mode = "off"`},
		{"nothing", "off", nil, "no manifest"},
		{"index alone", "off", []content.Document{x}, "does not lead to a manifest"},
		{"two manifests", "off", []content.Document{other, m}, "does not lead to a manifest"},
		{"manifest that the index does not list", "off", []content.Document{x, other}, "does not list"},
		{"other bytes", "off", []content.Document{forged}, "other bytes"},
		{"manifest first", "off", []content.Document{m, x}, "does not lead to a manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := NewPolicy(c.mode)
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.Verify(Subject{Repository: "r.example/a", Reference: "r.example/a:1", Documents: c.docs})
			if c.want == "" {
				if err != nil || !v.Valid() || v.Root() != c.docs[0].Digest || v.ManifestDigest() != m.Digest {
					t.Fatalf("got %+v, %v", v, err)
				}
				if v.Repository() != "r.example/a" || len(v.Manifest().Layers) != 1 {
					t.Errorf("got repository %q, manifest %+v", v.Repository(), v.Manifest())
				}
				return
			}
			if v.Valid() || err == nil || !strings.HasPrefix(err.Error(), "SignatureValidationFailed") || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v", v.Valid(), err)
			}
			if !errors.Is(spec.KindOf(err), errdefs.ErrUnknown) {
				t.Errorf("kind %v", spec.KindOf(err))
			}
		})
	}
}

func TestZeroValuesTrustNothing(t *testing.T) {
	if (Verified{}).Valid() {
		t.Error("a zero Verified is valid")
	}
	if v, err := (Policy{}).Verify(Subject{Documents: []content.Document{manifest(t, "a")}}); err == nil || v.Valid() {
		t.Error("a zero Policy accepts")
	}
}

func TestUnknownMode(t *testing.T) {
	for _, mode := range []string{"Off", "enforce", " off", "off ", "none"} {
		p, err := NewPolicy(mode)
		if !errdefs.IsInvalidArgument(err) || p.Off() {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
}

func TestVerifiedManifestIsACopy(t *testing.T) {
	p, _ := NewPolicy("off")
	v, err := p.Verify(Subject{Documents: []content.Document{manifest(t, "a")}})
	if err != nil {
		t.Fatal(err)
	}
	v.Manifest().Layers[0].Digest = content.FromBytes(nil)
	if v.Manifest().Layers[0].Digest == content.FromBytes(nil) {
		t.Error("the holder of a Verified could point it at another layer")
	}
}
