package registrytest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Options of a registry. The zero value is plain HTTP on a free port of 127.0.0.1, open to all.
type Options struct {
	Addr string // host:port to listen on; default 127.0.0.1:0
	TLS  bool   // with a certificate of its own, see Registry.CA
	// Username and Password are asked for when set: by Basic, or at a token service.
	Username, Password string
	// IdentityToken is accepted by the token service's OAuth2 endpoint.
	IdentityToken string
	// Token puts a token service (Bearer) in front.
	Token bool
	// TokenUses is how many requests a token is good for; 0 is for ever.
	TokenUses int
	// Realm is the URL of the token service. Default: this registry's own.
	Realm string
}

// Request is what one HTTP request looked like.
type Request struct {
	Method, Host, Path, Query string
	Header                    http.Header
	Body                      string // of a POST, at most 64 KiB
}

// Intercept stands in front of the registry. It answers itself, or calls next.
type Intercept func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Registry is a running registry.
type Registry struct {
	URL  string // http://127.0.0.1:port
	Host string // 127.0.0.1:port, as in a reference
	CA   []byte // PEM, with Options.TLS

	options Options
	server  *httptest.Server
	inner   http.Handler

	mu        sync.Mutex
	intercept Intercept
	requests  []Request
	tokens    map[string]int // uses left; -1 is for ever
}

// Start starts a registry.
func Start(o Options) (*Registry, error) {
	addr := o.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	r := &Registry{options: o, inner: registry.New(registry.Logger(quiet)), tokens: map[string]int{}}
	r.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(r.serve), ErrorLog: quiet}}
	if o.TLS {
		r.server.StartTLS()
		r.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
	} else {
		r.server.Start()
	}
	r.URL = r.server.URL
	r.Host = strings.TrimPrefix(strings.TrimPrefix(r.URL, "https://"), "http://")
	return r, nil
}

// TB is the part of testing.TB that New needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// New starts a registry that ends with the test.
func New(t TB, o Options) *Registry {
	t.Helper()
	r, err := Start(o)
	if err != nil {
		t.Fatalf("registry: %v", err)
	}
	t.Cleanup(r.Close)
	return r
}

// Close ends the registry, and every request that is still being served.
func (r *Registry) Close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Ref names an image of this registry: Ref("app:1") is 127.0.0.1:port/app:1.
func (r *Registry) Ref(name string) string { return r.Host + "/" + name }

// Intercept puts i in front of the registry, in the place of the last one; nil takes it away.
func (r *Registry) Intercept(i Intercept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = i
}

// Requests returns what was asked so far.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// Count returns how many requests had a path that contains part.
func (r *Registry) Count(part string) int {
	n := 0
	for _, q := range r.Requests() {
		if strings.Contains(q.Path, part) {
			n++
		}
	}
	return n
}

// Forget empties the log of requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

func (r *Registry) serve(w http.ResponseWriter, q *http.Request) {
	seen := Request{Method: q.Method, Host: q.Host, Path: q.URL.Path, Query: q.URL.RawQuery, Header: q.Header.Clone()}
	if q.Method == http.MethodPost {
		b, _ := io.ReadAll(io.LimitReader(q.Body, 64<<10))
		seen.Body = string(b)
		q.Body = io.NopCloser(bytes.NewReader(b))
	}
	r.mu.Lock()
	r.requests = append(r.requests, seen)
	intercept := r.intercept
	r.mu.Unlock()
	next := http.HandlerFunc(r.guarded)
	if intercept != nil {
		intercept(w, q, next)
		return
	}
	next(w, q)
}

// guarded asks who it is, where the options say so.
func (r *Registry) guarded(w http.ResponseWriter, q *http.Request) {
	switch {
	case q.URL.Path == "/token":
		r.issue(w, q)
	case r.options.Token:
		if token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok && r.spend(token) {
			r.inner.ServeHTTP(w, q)
			return
		}
		realm := r.options.Realm
		if realm == "" {
			realm = r.URL + "/token"
		}
		deny(w, fmt.Sprintf("Bearer realm=%q,service=\"test\",scope=\"repository:%s:pull\"", realm, repository(q.URL)))
	case r.options.Username != "" && !r.basic(q):
		deny(w, `Basic realm="test"`)
	default:
		r.inner.ServeHTTP(w, q)
	}
}

func deny(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

func repository(u *url.URL) string {
	name := strings.TrimPrefix(u.Path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/"} {
		name, _, _ = strings.Cut(name, part)
	}
	return name
}

func (r *Registry) basic(q *http.Request) bool {
	u, p, ok := q.BasicAuth()
	return ok && u == r.options.Username && p == r.options.Password
}

// issue is the token service: GET with Basic, or POST with a refresh token (OAuth2).
func (r *Registry) issue(w http.ResponseWriter, q *http.Request) {
	ok := r.options.Username == "" || r.basic(q)
	if q.Method == http.MethodPost {
		ok = r.options.IdentityToken != "" && q.FormValue("refresh_token") == r.options.IdentityToken
	}
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"token": r.IssueToken(), "expires_in": 300})
}

// IssueToken makes a token that the registry accepts, as a RegistryToken would be.
func (r *Registry) IssueToken() string {
	token := "issued-" + rand.Text()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[token] = r.options.TokenUses
	if r.options.TokenUses == 0 {
		r.tokens[token] = -1
	}
	return token
}

func (r *Registry) spend(token string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.tokens[token]
	if left == 0 {
		return false
	}
	r.tokens[token] = left - 1
	return true
}

// TLSConfig trusts this registry's certificate.
func (r *Registry) TLSConfig() *tls.Config {
	return r.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}
