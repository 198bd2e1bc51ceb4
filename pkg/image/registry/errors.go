package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Unavailable is the word by which a kubelet knows that a registry failed (k8s.io/cri-api, pkg/errors). The texts of
// such errors start with it, and their kind is errdefs.ErrUnknown, the code that it expects.
const Unavailable = "RegistryUnavailable"

// answer is an HTTP status that is not the wanted one.
type answer struct {
	status int
	detail string // the registry's own word, redacted and bounded
}

func (e *answer) Error() string {
	s := fmt.Sprintf("it answered %d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		s += fmt.Sprintf(" (%q)", e.detail)
	}
	return s
}

// statusError reads an error answer; it believes nothing of it but that its text is meant for a person.
func (g *guard) statusError(res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	e := &answer{status: res.StatusCode}
	var body transport.Error
	if json.Unmarshal(b, &body) == nil {
		e.detail = g.diagnosis(body.Errors)
	}
	return e
}

var reCode = regexp.MustCompile(`^[A-Z_]{1,40}$`)

func (g *guard) diagnosis(ds []transport.Diagnostic) string {
	if len(ds) == 0 {
		return ""
	}
	d := ds[0]
	s := g.redact(d.Message)
	if reCode.MatchString(string(d.Code)) {
		s = string(d.Code) + ": " + s
	}
	return content.Clip(strings.TrimSuffix(s, ": "))
}

// shorten brings an error of a request, or of go-containerregistry's handshake, to one that is safe to show: URLs lose
// their queries, which carry signatures, and bodies are left out, which carry tokens.
func (g *guard) shorten(err error) error {
	// A registry that may use plain HTTP was tried both ways: what TLS says counts before a status.
	var no *refusal
	if errors.As(err, &no) {
		return no
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return cert
	}
	var status *transport.Error
	if errors.As(err, &status) {
		return &answer{status: status.StatusCode, detail: g.diagnosis(status.Errors)}
	}
	for _, known := range []error{errStalled, errSlow, errLong} {
		if errors.Is(err, known) {
			return known
		}
	}
	var u *url.Error
	if errors.As(err, &u) {
		return g.shorten(u.Err)
	}
	return err
}

// transient tells whether trying again may help.
func transient(err error) bool {
	var a *answer
	if errors.As(err, &a) {
		switch a.status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	for _, e := range []error{io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE, syscall.ETIMEDOUT, errBroken} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errBroken: the connection ended in the middle of an answer.
var errBroken = errors.New("the connection broke off")

// classify gives an error its kind and a text for a person. what is the object: `image "…"`.
func (s *session) classify(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: pull ended: %w", what, Ended(ctx))
	}
	if spec.KindOf(err) != nil {
		return err
	}
	var (
		a    *answer
		no   *refusal
		cert *tls.CertificateVerificationError
		ca   x509.UnknownAuthorityError
	)
	name := display(s.host)
	switch {
	case errors.As(err, &a):
		return s.classifyAnswer(what, a)
	case errors.As(err, &no):
		return spec.Preconditionf("%s: registry %s is not used: %s", what, name, no.text)
	case errors.As(err, &cert), errors.As(err, &ca):
		return spec.Errorf(errdefs.ErrUnknown, "%s: registry %s has a certificate that is not trusted: %s; set ca for it in the configuration if it has an authority of its own",
			Unavailable, name, content.Clip(err.Error()))
	case strings.Contains(err.Error(), "gave HTTP response to HTTPS client"), errors.As(err, new(tls.RecordHeaderError)):
		return spec.Errorf(errdefs.ErrUnknown, "%s: registry %s does not speak TLS; if that is meant, set plain_http = true for it in the configuration", Unavailable, name)
	case errors.Is(err, errStalled):
		return spec.Errorf(errdefs.ErrUnknown, "%s: registry %s: %s: no byte for %s", Unavailable, name, what, s.guard.progress)
	}
	return spec.Errorf(errdefs.ErrUnknown, "%s: registry %s: %s: %s", Unavailable, name, what, content.Clip(s.guard.redact(err.Error())))
}

func (s *session) classifyAnswer(what string, a *answer) error {
	name := display(s.host)
	switch {
	case a.status == http.StatusNotFound:
		return spec.NotFoundf("%s is not in registry %s: %v", what, name, a)
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		hint := "check the credentials, and that they may pull it"
		if s.anonymous {
			hint = "it does not exist or needs credentials, and none were given for this registry"
		}
		return spec.Errorf(errdefs.ErrPermissionDenied, "%s may not be pulled from registry %s: %v; %s", what, name, a, hint)
	}
	return spec.Errorf(errdefs.ErrUnknown, "%s: registry %s: %s: %v", Unavailable, name, what, a)
}

// retry calls f until it succeeds, fails for good, or the configured number of retries is used up.
func (s *session) retry(ctx context.Context, f func() error) error {
	wait := s.config.Backoff
	for left := s.config.Retries; ; left-- {
		err := f()
		if err == nil || left <= 0 || ctx.Err() != nil || !transient(err) {
			return err
		}
		pause := wait
		if asked := retryAfter(s.guard.takeRetryAfter(), time.Now()); asked > pause {
			pause = asked
		}
		wait *= 3
		t := time.NewTimer(min(pause, maxBackoff))
		select {
		case <-ctx.Done():
			t.Stop()
			return Ended(ctx)
		case <-t.C:
		}
	}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); what cannot be read asks for nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Duration(max(0, min(n, int64(maxBackoff/time.Second)))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, min(t.Sub(now), maxBackoff))
	}
	return 0
}

// Ended is why ctx ended: errors.Is finds context.Canceled or context.DeadlineExceeded in it, and the cause where there
// is another.
func Ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
