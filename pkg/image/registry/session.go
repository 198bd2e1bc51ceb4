package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	userAgent    = "runtimed"
	maxRedirects = 5
	dialTimeout  = 30 * time.Second
	maxCA        = 4 << 20 // bytes of a CA file
)

// session speaks with one host about one repository, with one identity.
type session struct {
	host      string // as requests need it
	path      string // of the repository
	anonymous bool
	guard     *guard
	config    *Config
	auth      authn.AuthConfig
	plain     bool // plain HTTP is allowed
	closers   []*http.Transport

	mu     sync.Mutex
	client *http.Client // nil until the handshake
}

func (c *Client) open(ctx context.Context, host, path string, a Auth) (*session, error) {
	cfg, err := c.authFor(ctx, host, path, a)
	if err != nil {
		return nil, err
	}
	own, secure, loopback, err := c.transports(host)
	if err != nil {
		return nil, err
	}
	s := &session{
		host: host, path: path, config: &c.config, auth: cfg, anonymous: cfg == (authn.AuthConfig{}),
		plain: c.config.host(host).PlainHTTP || isLoopback(hostname(host)), closers: []*http.Transport{own, secure, loopback},
	}
	s.guard = &guard{
		host: host, own: own, secure: secure, loopback: loopback, progress: c.config.ProgressTimeout, secrets: map[string]bool{},
		plainFor: func(h string) bool { return c.config.host(h).PlainHTTP },
	}
	for _, secret := range []string{cfg.Password, cfg.IdentityToken, cfg.RegistryToken, a.Auth} {
		s.guard.add(secret)
	}
	return s, nil
}

func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// transports returns one for the host itself, whose configured authority vouches for it and for no host that it
// redirects to, one for these, and one for plain HTTP that reaches this machine alone.
func (c *Client) transports(host string) (own, secure, loopback *http.Transport, err error) {
	pool, err := c.pool(host)
	if err != nil {
		return nil, nil, nil, err
	}
	base := func(control func(string, string, syscall.RawConn) error) *http.Transport {
		return &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout, Control: control}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // digests are of the bytes as they are sent
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		}
	}
	own, secure = base(nil), base(nil)
	own.Proxy, secure.Proxy = http.ProxyFromEnvironment, http.ProxyFromEnvironment
	own.TLSClientConfig.RootCAs = pool
	return own, secure, base(func(_, address string, _ syscall.RawConn) error { return onlyLoopback(address) }), nil
}

// pool is the system's authorities and the configured one, or nil where none is configured.
func (c *Client) pool(host string) (*x509.CertPool, error) {
	file := c.config.host(host).CA
	if file == "" {
		return nil, nil
	}
	pem, err := content.ReadFile(file, maxCA)
	if err != nil {
		return nil, spec.Preconditionf("registry %s: its ca cannot be read: %w", display(host), err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, spec.Preconditionf("registry %s: its ca %s holds no certificate", display(host), file)
	}
	return pool, nil
}

// connect does the handshake (ping, then a token where one is asked for), once.
func (s *session) connect(ctx context.Context) (*http.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	var opts []name.Option
	if s.plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(s.host, opts...)
	if err != nil {
		return nil, spec.Invalidf("%q is not the name of a registry", content.Clip(s.host))
	}
	scope := reg.Repo(s.path).Scope(transport.PullScope)
	rt, err := transport.NewWithContext(ctx, reg, authn.FromConfig(s.auth), transport.NewUserAgent(s.guard, userAgent), []string{scope})
	if err != nil {
		return nil, s.handshakeError(ctx, err)
	}
	s.client = &http.Client{Transport: &inTurn{inner: rt, turn: make(chan struct{}, 1)}, CheckRedirect: checkRedirect}
	return s.client, nil
}

// handshakeError keeps what can be shown of an error of go-containerregistry: some quote a token service's whole answer.
func (s *session) handshakeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return Ended(ctx)
	}
	short := s.guard.shorten(err)
	var (
		a  *answer
		no *refusal
		op *net.OpError
		ce *tls.CertificateVerificationError
	)
	if errors.As(short, &a) || errors.As(short, &no) || errors.As(err, &op) || errors.As(err, &ce) || transient(err) ||
		errors.Is(short, errStalled) || errors.Is(short, errSlow) || errors.Is(short, errLong) {
		return short
	}
	if strings.Contains(err.Error(), "realm") {
		return &refusal{"it names a token service that may not be used"}
	}
	return errors.New("it does not answer as a registry does when asked who may pull (GET /v2/ and its token service)")
}

// inTurn lets one request at a time wait for its answer's headers: go-containerregistry's token refresh is not safe for
// more. The bodies stream side by side.
type inTurn struct {
	inner http.RoundTripper
	turn  chan struct{}
}

func (t *inTurn) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
		return t.inner.RoundTrip(req)
	case <-req.Context().Done():
		return nil, Ended(req.Context())
	}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return &refusal{"it redirects without end"}
	}
	return nil
}

// get sends one GET for a path below the repository.
func (s *session) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "https", Host: s.host, Path: "/v2/" + s.path + "/" + path}
	if s.plain {
		u.Scheme = "http" // the session's transport knows which of the two the ping found
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	res, err := client.Do(req)
	if err != nil {
		return nil, s.guard.shorten(err)
	}
	return res, nil
}

func (s *session) close() {
	for _, t := range s.closers {
		t.CloseIdleConnections()
	}
}
