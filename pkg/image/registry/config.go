package registry

import (
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Config is the node's policy about registries. The zero value of each field is its default.
type Config struct {
	// Registries by host and port as in a reference ("docker.io", "registry.example:5000"). One that is not here is spoken
	// to with TLS, without a mirror.
	Registries map[string]Host
	// AuthFiles are read in order, when a request brings no credentials (see DefaultAuthFiles). A file that is not there is
	// skipped; one that cannot be read refuses the pull.
	AuthFiles []string
	// ProgressTimeout: a registry that sends no byte for so long has failed. Default 60 s. A manifest, config or token has
	// four times as long in all.
	ProgressTimeout time.Duration
	// Retries is how often a transient failure is tried again. Default 4; negative is never.
	Retries int
	// Backoff is the first wait before a retry; it trebles, up to 30 s, which also bounds a registry's Retry-After.
	// Default 300 ms.
	Backoff time.Duration
	// Platform to choose from an index. Default linux and this build's architecture.
	Platform content.Platform
	// Log hears of mirrors that failed. Default slog.Default().
	Log *slog.Logger
}

// Host is what the configuration says of one registry.
type Host struct {
	// Mirrors are hosts (with port) that are asked first, in order, for the same repository. What else the configuration
	// says of a mirror stands under its own name. A mirror gets no credentials of the request, which are the registry's.
	Mirrors []string
	// PlainHTTP allows plain HTTP. Loopback registries may always use it.
	PlainHTTP bool
	// CA is a PEM file of authorities that are trusted beside the system's, for this host alone.
	CA string
	// CredentialHelper is the absolute path of a docker-credential-helpers program, asked when no auth file knows this host.
	CredentialHelper string
}

// maxBackoff bounds every wait between two attempts.
const maxBackoff = 30 * time.Second

// DefaultAuthFiles are the places where people keep credentials: docker's and podman's. runtimeDir is XDG_RUNTIME_DIR,
// or "".
func DefaultAuthFiles(runtimeDir string) []string {
	files := []string{"/etc/runtimed/auth.json", "/root/.docker/config.json"}
	if filepath.IsAbs(runtimeDir) {
		files = append(files, filepath.Join(runtimeDir, "containers/auth.json"))
	}
	return append(files, "/run/containers/0/auth.json")
}

func (c *Config) setDefaults() {
	if c.ProgressTimeout == 0 {
		c.ProgressTimeout = time.Minute
	}
	if c.Retries == 0 {
		c.Retries = 4
	}
	if c.Backoff == 0 {
		c.Backoff = 300 * time.Millisecond
	}
	if c.Platform == (content.Platform{}) {
		c.Platform = content.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// check refuses what could only fail later.
func (c *Config) check() error {
	for host, h := range c.Registries {
		if !reHost.MatchString(host) {
			return spec.Invalidf("registry %q is not a host with an optional port", host)
		}
		for _, m := range h.Mirrors {
			if !reHost.MatchString(m) {
				return spec.Invalidf("registry %q: mirror %q is not a host with an optional port", host, m)
			}
		}
		for key, path := range map[string]string{"ca": h.CA, "credential_helper": h.CredentialHelper} {
			if path != "" && !filepath.IsAbs(path) {
				return spec.Invalidf("registry %q: %s %q is not an absolute path", host, key, path)
			}
		}
	}
	for _, f := range c.AuthFiles {
		if !filepath.IsAbs(f) {
			return spec.Invalidf("auth file %q is not an absolute path", f)
		}
	}
	if c.ProgressTimeout < 0 || c.Backoff < 0 {
		return spec.Invalidf("the registry's timeouts cannot be negative")
	}
	return nil
}

// host is the configuration of a host as a person writes it.
func (c *Config) host(h string) Host { return c.Registries[display(h)] }
