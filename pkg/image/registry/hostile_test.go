package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
	"github.com/runtimed/runtimed/pkg/image/content"
)

// outcome of a pull: a kind and a part of the text.
type outcome struct {
	kind error
	text string
}

var unavailable = outcome{errdefs.ErrUnknown, Unavailable}

func (o outcome) check(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("the pull succeeded")
	}
	if !errors.Is(err, o.kind) || !strings.Contains(err.Error(), o.text) {
		t.Fatalf("got %v (want %v: %q)", err, o.kind, o.text)
	}
	if o.text == Unavailable && !strings.HasPrefix(err.Error(), Unavailable) {
		t.Fatalf("does not start with %s: %v", Unavailable, err)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestHostileRegistry(t *testing.T) {
	lost := func(text string) outcome { return outcome{errdefs.ErrDataLoss, text} }
	bad := func(text string) outcome { return outcome{errdefs.ErrInvalidArgument, text} }
	manifests, blobs, hello := "/manifests/", "/blobs/", "/v2/"
	for _, c := range []struct {
		name string
		how  rt.Intercept
		want outcome
	}{
		{"no such image", rt.On(manifests, rt.Status(404)), outcome{errdefs.ErrNotFound, "is not in registry"}},
		{"no such blob", rt.On(blobs, rt.Status(404)), outcome{errdefs.ErrNotFound, "is not in registry"}},
		{"forbidden", rt.On(manifests, rt.Status(403)), outcome{errdefs.ErrPermissionDenied, "needs credentials"}},
		{"always 401", rt.Status(401), outcome{errdefs.ErrPermissionDenied, "none were given"}},
		{"401 without end", rt.Status(401, "WWW-Authenticate", `Basic realm="x"`), outcome{errdefs.ErrPermissionDenied, "none were given"}},
		{"500", rt.On(manifests, rt.Status(500)), unavailable},
		{"503 at hello", rt.Status(503), unavailable},
		{"teapot", rt.On(blobs, rt.Status(418)), unavailable},
		{"429 for ever", rt.On(manifests, rt.Status(429)), unavailable},
		{"reset at hello", rt.Reset(0), unavailable},
		{"reset in the manifest", rt.On(manifests, rt.Reset(10)), unavailable},
		{"hang at hello", rt.On(hello, rt.Hang(0)), unavailable},
		{"hang after the manifest's headers", rt.On(manifests, rt.Hang(1)), unavailable},
		{"hang in a blob", rt.On(blobs, rt.Hang(1)), unavailable},
		{"dripping manifest", rt.On(manifests, rt.Drip(100*time.Millisecond)), unavailable},
		{"other bytes in the manifest", rt.On(manifests, rt.Flip()), lost("digest")},
		{"other bytes in a blob", rt.On(blobs, rt.Flip()), lost("other bytes")},
		{"short blob", rt.On(blobs, rt.Short(5)), lost("ended after")},
		{"long blob", rt.On(blobs, rt.Longer(1<<20)), lost("longer than")},
		{"blob with another length", rt.On(blobs, rt.Changed(func(b []byte) []byte { return b[:len(b)-1] })), lost("bytes")},
		{"endless manifest", rt.On(manifests, rt.Endless(200, content.OCIManifest)), bad("larger than")},
		{"endless everything", rt.On(hello, rt.Endless(200, content.OCIManifest)), bad("larger than")},
		{"endless error", rt.On(manifests, rt.Endless(500, "application/json")), unavailable},
		{"endless blob", rt.On(blobs, rt.Endless(200, "application/octet-stream")), lost("longer than")},
		{"html", rt.On(manifests, rt.Serve("text/html", []byte("<html>login</html>"))), bad("not JSON")},
		{"content type of another kind", rt.On(manifests, rt.Serve(content.OCIIndex, []byte(`{"schemaVersion":2,"layers":[]}`))), bad("not what its media type")},
		{"manifest and index", rt.On(manifests, rt.Serve(content.OCIManifest, []byte(`{"schemaVersion":2,"layers":[],"manifests":[]}`))), bad("at once")},
		{"redirects without end", rt.On(manifests, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}), outcome{errdefs.ErrFailedPrecondition, "without end"}},
		{"redirect to a file", rt.On(blobs, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Location", "file:///etc/shadow")
			w.WriteHeader(http.StatusFound)
		}), outcome{errdefs.ErrFailedPrecondition, "scheme"}},
		{"redirect to plain HTTP elsewhere", rt.On(blobs, rt.Redirect(302, "http://registry.example")), outcome{errdefs.ErrFailedPrecondition, "plain_http"}},
		{"huge header", rt.On(manifests, rt.Status(200, "X-Long", strings.Repeat("x", 1<<20))), unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rt.New(t, rt.Options{})
			r.MustPush(t, "app:1", sample())
			r.Intercept(c.how)
			_, _, err := pull(t, client(t, Config{ProgressTimeout: 300 * time.Millisecond, Retries: 1}), r.Ref("app:1"), Auth{})
			c.want.check(t, err)
			if n := len(r.Requests()); n > 40 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestHostileDocuments(t *testing.T) {
	d := func(mediaType string, n int) map[string]any {
		return map[string]any{"mediaType": mediaType, "size": n, "digest": rt.Digest([]byte("x"))}
	}
	config, layer := d("application/vnd.oci.image.config.v1+json", 2), d("application/vnd.oci.image.layer.v1.tar", 2)
	with := func(m map[string]any, k string, v any) map[string]any {
		out := map[string]any{k: v}
		for kk, vv := range m {
			if kk != k {
				out[kk] = vv
			}
		}
		return out
	}
	many := func(n int) []any {
		var l []any
		for range n {
			l = append(l, layer)
		}
		return l
	}
	manifest := func(config any, layers ...any) map[string]any {
		return map[string]any{"schemaVersion": 2, "mediaType": content.OCIManifest, "config": config, "layers": layers}
	}
	for name, c := range map[string]struct {
		doc  any
		text string
	}{
		"10,000 layers":          {manifest(config, many(10000)...), "10000 layers"},
		"501 layers":             {manifest(config, many(501)...), "501 layers"},
		"no layers":              {manifest(config), "0 layers"},
		"foreign layer":          {manifest(config, d("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 2)), "cannot be unpacked"},
		"layer with urls":        {manifest(config, with(layer, "urls", []string{"https://evil.example/x"})), "URLs"},
		"config with urls":       {manifest(with(config, "urls", []string{"https://evil.example/x"}), layer), "URLs"},
		"file-system layer":      {manifest(config, d("application/vnd.oci.image.layer.v1.erofs", 2)), "cannot be unpacked"},
		"artifact":               {manifest(d("application/vnd.cncf.helm.config.v1+json", 2), layer), "not a container image"},
		"negative size":          {manifest(config, with(layer, "size", -1)), "bytes"},
		"size beyond all":        {manifest(config, with(layer, "size", int64(1)<<62)), "bytes"},
		"huge config":            {manifest(with(config, "size", 5<<20), layer), "bytes"},
		"digest with a path":     {manifest(config, with(layer, "digest", "sha256:../../../etc/shadow")), "cannot be read"},
		"digest in upper case":   {manifest(config, with(layer, "digest", "sha256:"+strings.Repeat("A", 64))), "cannot be read"},
		"sha512":                 {manifest(config, with(layer, "digest", "sha512:"+strings.Repeat("a", 128))), "not sha256"},
		"md5":                    {manifest(config, with(layer, "digest", "md5:"+strings.Repeat("a", 32))), "cannot be read"},
		"schema 1":               {map[string]any{"schemaVersion": 1, "fsLayers": []any{}}, "schema version 1"},
		"media type disagrees":   {with(manifest(config, layer), "mediaType", content.DockerManifest), "served it as"},
		"member in another case": {with(manifest(config, layer), "Layers", []any{}), "another reader"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rt.New(t, rt.Options{})
			b, err := json.Marshal(c.doc)
			if err != nil {
				t.Fatal(err)
			}
			r.Intercept(rt.On("/manifests/", rt.Serve(content.OCIManifest, b)))
			_, _, err = pull(t, client(t, Config{Retries: -1}), r.Ref("app:1"), Auth{})
			outcome{errdefs.ErrInvalidArgument, c.text}.check(t, err)
			if r.Count("/blobs/") != 0 {
				t.Error("a blob was asked for")
			}
		})
	}
}

// A registry cannot make a true cycle of digests; it can answer every question with one more index.
func TestIndexesWithoutEnd(t *testing.T) {
	r := rt.New(t, rt.Options{})
	var docs [][]byte
	next := rt.Digest([]byte("bottom"))
	for range 5 {
		b := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":1,"digest":%q}]}`, content.OCIIndex, content.OCIIndex, next))
		docs = append(docs, b)
		next = rt.Digest(b)
	}
	r.Intercept(rt.On("/manifests/", func(w http.ResponseWriter, q *http.Request, h http.Handler) {
		for _, b := range docs {
			if strings.HasSuffix(q.URL.Path, rt.Digest(b)) {
				rt.Serve(content.OCIIndex, b)(w, q, h)
				return
			}
		}
		rt.Serve(content.OCIIndex, docs[len(docs)-1])(w, q, h)
	}))
	_, _, err := pull(t, client(t, Config{Retries: -1}), r.Ref("app:1"), Auth{})
	outcome{errdefs.ErrInvalidArgument, "at most 2"}.check(t, err)
	if n := r.Count("/manifests/"); n != 3 {
		t.Errorf("%d documents were fetched", n)
	}
}

func TestBrokenTransfersGoOn(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", sample())
	for name, how := range map[string]rt.Intercept{
		"twice reset in a blob": rt.On(b.Layers[0], rt.Times(2, rt.Reset(30000))),
		"503 then well":         rt.On("/blobs/", rt.Times(2, rt.Status(503))),
		"429 with a wait":       rt.On("/manifests/", rt.Times(1, rt.Status(429, "Retry-After", "0"))),
		"reset at hello":        rt.Times(1, rt.Reset(0)),
		"no ranges": rt.On(b.Layers[0], func(w http.ResponseWriter, q *http.Request, next http.Handler) {
			if q.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			rt.Times(1, rt.Reset(1000))(w, q, next)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			r.Forget()
			if name == "no ranges" {
				once := rt.Times(1, rt.Reset(1000))
				how = rt.On(b.Layers[0], func(w http.ResponseWriter, q *http.Request, next http.Handler) {
					if q.Header.Get("Range") != "" {
						w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
						return
					}
					once(w, q, next)
				})
			}
			r.Intercept(how)
			_, blobs, err := pull(t, client(t, Config{}), r.Ref("app:1"), Auth{})
			if err != nil {
				t.Fatal(err)
			}
			wantBlobs(t, b, blobs)
			if name != "twice reset in a blob" {
				return
			}
			ranges := 0
			for _, q := range r.Requests() {
				if strings.HasPrefix(q.Header.Get("Range"), "bytes=") {
					ranges++
				}
			}
			if ranges != 2 {
				t.Errorf("%d requests went on where they were", ranges)
			}
		})
	}
}

func TestWrongRange(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", sample())
	once := rt.Times(1, rt.Reset(30000))
	r.Intercept(rt.On(b.Layers[0], func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if q.Header.Get("Range") == "" {
			once(w, q, next)
			return
		}
		w.Header().Set("Content-Range", "bytes 0-9/10")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(bytes.Repeat([]byte("x"), 10))
	}))
	_, _, err := pull(t, client(t, Config{}), r.Ref("app:1"), Auth{})
	outcome{errdefs.ErrDataLoss, "was asked for"}.check(t, err)
}

func TestCancelEndsAtOnce(t *testing.T) {
	r := rt.New(t, rt.Options{})
	r.MustPush(t, "app:1", sample())
	ref, _ := ParseReference(r.Ref("app:1"))
	c := client(t, Config{})
	cause := errors.New("caller left")
	for name, part := range map[string]string{"hello": "/v2/", "manifest": "/manifests/"} {
		r.Intercept(rt.On(part, rt.Hang(0)))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		if _, err := c.Resolve(ctx, ref, Auth{}); !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.Intercept(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := c.Resolve(ctx, ref, Auth{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired: %v", err)
	}
	img, err := c.Resolve(t.Context(), ref, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r.Intercept(rt.On("/blobs/", rt.Hang(100)))
	f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx2, cancel2 := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel2)
	if err := img.Layer(ctx2, verified(t, img), 0, f); !errors.Is(err, context.Canceled) {
		t.Errorf("in a blob: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, _, err = pull(t, client(t, Config{Retries: 1}), addr+"/app:1", Auth{})
	unavailable.check(t, err)
	_, _, err = pull(t, client(t, Config{Retries: -1}), "registry.invalid/app:1", Auth{})
	unavailable.check(t, err)
}

func TestPlainHTTPNeedsConfiguration(t *testing.T) {
	// Private addresses, which go-containerregistry would try with plain HTTP unasked.
	g := &guard{host: "10.0.0.1:5000", plainFor: func(h string) bool { return h == "10.9.9.9:5000" }, secrets: map[string]bool{}}
	for url, want := range map[string]string{
		"http://10.0.0.1:5000/v2/":   "plain_http",
		"http://192.168.1.1/v2/":     "plain_http",
		"http://r.example/v2/":       "plain_http",
		"http://127.0.0.1.example/":  "plain_http",
		"http://10.0.0.1:5000@evil/": "plain_http",
		"ftp://10.0.0.1:5000/":       "scheme",
		"https://10.0.0.1:5000/v2/":  "",
	} {
		q, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.admit(q)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for addr, ok := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:1": true, "10.0.0.1:80": false, "nonsense": false} {
		if err := onlyLoopback(addr); (err == nil) != ok {
			t.Errorf("dial %s: %v", addr, err)
		}
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "0": 0, "7": 7 * time.Second, "1000000000": maxBackoff, "9223372036854775807": maxBackoff, "99999999999999999999": 0,
		now.Add(5 * time.Second).Format(http.TimeFormat): 5 * time.Second, now.Add(time.Hour).Format(http.TimeFormat): maxBackoff,
		now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", s, got, want)
		}
	}
}

// A disk that is slow is not a registry that is slow.
func TestSlowReaderIsNoStall(t *testing.T) {
	r := rt.New(t, rt.Options{})
	b := r.MustPush(t, "app:1", sample())
	g := &guard{host: r.Host, loopback: http.DefaultTransport, progress: 50 * time.Millisecond, secrets: map[string]bool{}, plainFor: func(string) bool { return false }}
	q, err := http.NewRequestWithContext(withLimit(t.Context(), unlimited), http.MethodGet, r.URL+"/v2/app/blobs/"+b.Layers[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	total := 0
	for buf := make([]byte, 32<<10); ; {
		time.Sleep(80 * time.Millisecond)
		n, err := res.Body.Read(buf)
		if total += n; err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if total != len(b.Blobs[b.Layers[0]]) {
		t.Errorf("%d bytes", total)
	}
}
