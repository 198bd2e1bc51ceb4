package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/runtimed/runtimed/pkg/image/content"
)

// guard is the one place through which every request of a session passes, those that go-containerregistry makes for
// itself (ping, token, redirected) included. It decides where a request may go, sees that credentials stay home, and
// puts a clock and a cap on every answer. What it must guard against in that library, as of v0.22.1: a realm may be on
// any https host; a POST that carries an identity token follows a 307; a ping follows redirects to plain HTTP and then
// trusts it, and drains its answer without a limit; private addresses are tried with plain HTTP without being asked to.
type guard struct {
	host     string // of the session's registry, with port
	plainFor func(host string) bool
	own      http.RoundTripper // to host
	secure   http.RoundTripper // elsewhere, TLS or configured plain HTTP
	loopback http.RoundTripper // plain HTTP that connects to nothing but this machine
	progress time.Duration

	mu         sync.Mutex
	secrets    map[string]bool // texts that no error may show and no foreign host may get
	retryAfter string          // of the last answer that asked to wait
}

// refusal is a request that was not sent.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// errStalled ends a request whose registry sent nothing for too long; errSlow one of a document that took too long.
var (
	errStalled = errors.New("it sent nothing for too long")
	errSlow    = errors.New("it took too long to send a document")
	errLong    = errors.New("it sent more than a document may hold")
)

type limitKey struct{}

// unlimited marks a request for a blob: it may take as long as bytes come, and its size is checked where it is written.
const unlimited = -1

// withLimit sets how many bytes an answer may have. Without it, it is maxAnswer.
func withLimit(ctx context.Context, n int64) context.Context {
	return context.WithValue(ctx, limitKey{}, n)
}

// maxAnswer bounds what is neither document nor blob: tokens, errors, pings. In bytes.
const maxAnswer = 1 << 20

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(in *http.Request) (*http.Response, error) {
	req, err := g.admit(in)
	if err != nil {
		if in.Body != nil {
			in.Body.Close()
		}
		return nil, err
	}
	limit, ok := req.Context().Value(limitKey{}).(int64)
	if !ok {
		limit = maxAnswer
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{cancel: cancel, progress: g.progress, left: limit, ctx: ctx, parent: in.Context()}
	w.stall = time.AfterFunc(g.progress, func() { cancel(errStalled) })
	if limit != unlimited {
		w.whole = time.AfterFunc(4*g.progress, func() { cancel(errSlow) })
	}
	res, err := g.route(req).RoundTrip(req.WithContext(ctx))
	if err != nil {
		err = w.explain(err)
		w.end()
		return nil, err
	}
	g.note(res)
	w.stall.Stop()
	w.body, res.Body = res.Body, w
	return res, nil
}

func (g *guard) route(req *http.Request) http.RoundTripper {
	switch {
	case req.URL.Scheme == "http" && !g.plainFor(req.URL.Host):
		return g.loopback
	case strings.EqualFold(req.URL.Host, g.host):
		return g.own
	}
	return g.secure
}

// admit checks where a request goes and what it carries, and returns it, or a copy without what must stay home.
func (g *guard) admit(req *http.Request) (*http.Request, error) {
	foreign := !strings.EqualFold(req.URL.Host, g.host)
	redirected := req.Response != nil
	carries := req.Header.Get("Authorization")
	switch req.URL.Scheme {
	case "https":
	case "http":
		if !g.plainFor(req.URL.Host) && !isLoopback(req.URL.Hostname()) {
			return nil, &refusal{"plain HTTP to " + req.URL.Host + " is not allowed; if it is meant, set plain_http = true for it in the configuration"}
		}
		if redirected && wentThroughTLS(req) {
			return nil, &refusal{"it redirects from https to http://" + req.URL.Host}
		}
		if foreign && !redirected {
			return nil, &refusal{"its token service is at http://" + req.URL.Host + ", another host without TLS"}
		}
	default:
		return nil, &refusal{"it leads to a URL of the scheme " + content.Clip(req.URL.Scheme)}
	}
	if redirected && req.Method != http.MethodGet {
		return nil, &refusal{"its token service redirects a request that carries a credential"}
	}
	if redirected && foreign && isPing(req) {
		return nil, &refusal{"it redirects the question who it is to " + req.URL.Host}
	}
	if carries == "" {
		return req, nil
	}
	if foreign && redirected && (g.known(carries) || !strings.HasPrefix(carries, "Bearer ")) {
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
		return req, nil
	}
	if !redirected {
		g.remember(carries)
	}
	return req, nil
}

// wentThroughTLS tells whether any request that led here used TLS.
func wentThroughTLS(req *http.Request) bool {
	for r := req.Response; r != nil && r.Request != nil; r = r.Request.Response {
		if r.Request.URL.Scheme == "https" {
			return true
		}
	}
	return false
}

// isPing tells whether a redirected request began as GET /v2/.
func isPing(req *http.Request) bool {
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL.Path == "/v2/"
}

// remember keeps an Authorization value and what it is made of.
func (g *guard) remember(value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.secrets[value] = true
	kind, secret, _ := strings.Cut(value, " ")
	g.add(secret)
	if b, err := base64.StdEncoding.DecodeString(secret); err == nil && kind == "Basic" {
		_, password, _ := strings.Cut(string(b), ":")
		g.add(password)
	}
}

// add keeps a secret. mu is held. A shorter one would redact half of every sentence.
func (g *guard) add(secret string) {
	if len(secret) >= 3 {
		g.secrets[secret] = true
	}
}

func (g *guard) known(value string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.secrets[value]
}

// redact removes all secrets of the session from a foreign text.
func (g *guard) redact(s string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for secret := range g.secrets {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	return s
}

func (g *guard) note(res *http.Response) {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return
	}
	g.mu.Lock()
	g.retryAfter = res.Header.Get("Retry-After")
	g.mu.Unlock()
}

// takeRetryAfter returns the last Retry-After, once.
func (g *guard) takeRetryAfter() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.retryAfter
	g.retryAfter = ""
	return s
}

// isLoopback tells whether a host is this machine by its very name. That the name resolves so is checked when it is
// dialled.
func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// onlyLoopback is a net.Dialer's Control that connects to this machine alone.
func onlyLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.Unmap().IsLoopback() {
		return &refusal{"plain HTTP to " + address + ", which is not this machine, is not allowed"}
	}
	return nil
}
