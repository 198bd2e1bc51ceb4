package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func fetch(t *testing.T, r *Registry, path, authorization string) (int, http.Header, []byte) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		q.Header.Set("Authorization", authorization)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, b
}

func TestPushAndFetch(t *testing.T) {
	for _, o := range []Options{{}, {TLS: true}} {
		r := New(t, o)
		b := r.MustPush(t, "team/app:1", Image{Layers: []Layer{{Files: []File{{Name: "x", Body: []byte("y")}}}}})
		code, h, manifest := fetch(t, r, "/v2/team/app/manifests/1", "")
		if code != 200 || !bytes.Equal(manifest, b.Manifest) || h.Get("Content-Type") != b.MediaType {
			t.Fatalf("%d %v %s", code, h, manifest)
		}
		if code, _, blob := fetch(t, r, "/v2/team/app/blobs/"+b.Layers[0], ""); code != 200 || Digest(blob) != b.Layers[0] {
			t.Errorf("blob: %d", code)
		}
		if o.TLS != strings.HasPrefix(r.URL, "https://") || o.TLS != (len(r.CA) > 0) {
			t.Errorf("URL %s", r.URL)
		}
		if r.Count("/manifests/") != 1 || len(r.Requests()) != 2 {
			t.Errorf("requests %v", r.Requests())
		}
	}
}

func TestAuthentication(t *testing.T) {
	r := New(t, Options{Username: "u", Password: "p"})
	if code, h, _ := fetch(t, r, "/v2/", ""); code != 401 || !strings.HasPrefix(h.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("%d %v", code, h)
	}
	if code, _, _ := fetch(t, r, "/v2/", "Basic dTpw"); code != 200 {
		t.Errorf("with the password: %d", code)
	}
	r = New(t, Options{Token: true, TokenUses: 2})
	if code, h, _ := fetch(t, r, "/v2/", "Bearer forged"); code != 401 || !strings.HasPrefix(h.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("%d %v", code, h)
	}
	token := r.IssueToken()
	for i, want := range []int{200, 200, 401} {
		if code, _, _ := fetch(t, r, "/v2/", "Bearer "+token); code != want {
			t.Errorf("use %d: %d", i, code)
		}
	}
}

func TestDirKeepsModesAndLinks(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.WriteFile(filepath.Join(dir, "bin", "sh"), []byte("#!"), 0o755),
		os.Chmod(filepath.Join(dir, "bin", "sh"), 0o4755|os.ModeSetuid), os.Symlink("sh", filepath.Join(dir, "bin", "ash")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Image{Layers: []Layer{l}}.Build()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b.Blobs[b.Layers[0]]))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+" "+h.FileInfo().Mode().String()+" "+h.Linkname)
	}
	want := "bin/ drwxr-xr-x |bin/ash Lrwxrwxrwx sh|bin/sh urwxr-xr-x "
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestBuildIsTheSameEveryTime(t *testing.T) {
	i := Image{Config: Config{Env: []string{"A=b"}}, Layers: []Layer{{Files: []File{{Name: "x", Body: []byte("y")}}}}}
	for _, how := range []string{Gzip, Zstd, None} {
		i.Compression = how
		a, err := i.Build()
		if err != nil {
			t.Fatal(err)
		}
		b, err := i.Build()
		if err != nil || a.Digest != b.Digest || a.ID != b.ID {
			t.Errorf("%s: %s and %s, %v", how, a.Digest, b.Digest, err)
		}
	}
	if _, err := (Image{Compression: "xz", Layers: i.Layers}).Build(); err == nil {
		t.Error("an unknown compression was built")
	}
}
