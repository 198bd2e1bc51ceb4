package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/content"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxAuthFile bounds an auth file, in bytes.
const maxAuthFile = 1 << 20

// authEntry is one member of "auths" in docker's config.json and containers' auth.json.
type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// parseAuthFile returns the entries by key. Of the rest of the file, credential helpers above all, nothing is read.
func parseAuthFile(b []byte) (map[string]authEntry, error) {
	var f struct {
		Auths map[string]authEntry `json:"auths"`
	}
	if len(b) > maxAuthFile {
		return nil, spec.Preconditionf("it has more than %d bytes", maxAuthFile)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		// The decoder's text can quote the file.
		return nil, spec.Preconditionf("it is not the JSON of an auth file")
	}
	return f.Auths, nil
}

// lookup finds the most specific entry for a repository: host/a/b, host/a, host; then a key written as an address.
func lookup(entries map[string]authEntry, host, path string) (authEntry, bool) {
	for key := canonical(host) + "/" + path; ; {
		for k, e := range entries {
			if h, p, _ := strings.Cut(k, "/"); !strings.Contains(k, "://") && join(canonical(h), p) == key {
				return e, true
			}
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			break
		}
		key = key[:i]
	}
	for k, e := range entries {
		if u, err := url.Parse(k); err == nil && u.Host != "" && (u.Path == "" || u.Path == "/" || u.Path == "/v1/" || u.Path == "/v2/") && sameHost(k, host) {
			return e, true
		}
	}
	// Docker's hub is written as index.docker.io/v1/ too.
	e, ok := entries[canonical(host)+"/v1/"]
	return e, ok
}

func join(host, path string) string {
	if path == "" {
		return host
	}
	return host + "/" + path
}

// authFor returns the credentials for a repository: the request's, an auth file's, the configured helper's, or none.
func (c *Client) authFor(ctx context.Context, host, path string, a Auth) (authn.AuthConfig, error) {
	if !empty(a) {
		return resolve(a, host)
	}
	for _, file := range c.config.AuthFiles {
		b, err := content.ReadFile(file, maxAuthFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return authn.AuthConfig{}, spec.Preconditionf("auth file cannot be read, and may hold what this pull needs: %w", err)
		}
		entries, err := parseAuthFile(b)
		if err != nil {
			return authn.AuthConfig{}, spec.Preconditionf("auth file %s: %w", file, err)
		}
		if e, ok := lookup(entries, host, path); ok {
			got, err := resolve(e.credentials(), host)
			if err != nil {
				return got, spec.Preconditionf("auth file %s: %w", file, err)
			}
			return got, nil
		}
	}
	if helper := c.config.host(host).CredentialHelper; helper != "" {
		return askHelper(ctx, helper, host)
	}
	return authn.AuthConfig{}, nil
}

func (e authEntry) credentials() Auth {
	return Auth{Username: e.Username, Password: e.Password, Auth: e.Auth, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
}

// Bounds of a credential helper.
const (
	helperTimeout = 30 * time.Second
	maxHelper     = 1 << 20 // bytes of its answer
)

// askHelper runs "HELPER get" with the registry on its standard input (docker-credential-helpers, README). The program
// must be root's and writable by nobody else: it runs as the daemon.
func askHelper(parent context.Context, helper, host string) (authn.AuthConfig, error) {
	fail := func(why string) (authn.AuthConfig, error) {
		return authn.AuthConfig{}, spec.Preconditionf("credential helper %s for %s %s", helper, display(host), why)
	}
	var st unix.Stat_t
	if err := unix.Stat(helper, &st); err != nil {
		return fail("cannot be run: " + err.Error())
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail("is not a file that only root can write")
	}
	ctx, cancel := context.WithTimeout(parent, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, "get")
	cmd.Stdin = strings.NewReader(serverName(host))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + os.Getenv("HOME")}
	cmd.WaitDelay = time.Second
	out := &capped{limit: maxHelper, full: cancel}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		if parent.Err() != nil {
			return authn.AuthConfig{}, Ended(parent)
		}
		return fail("has no credentials: " + err.Error())
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.b.Bytes(), &answer); err != nil {
		return fail("did not answer with JSON")
	}
	if answer.Username == "<token>" {
		return resolve(Auth{IdentityToken: answer.Secret}, host)
	}
	got, err := resolve(Auth{Username: answer.Username, Password: answer.Secret}, host)
	if err != nil {
		return fail("answered without a username and a secret")
	}
	return got, nil
}

// serverName is how docker's own programs name a registry to a helper.
func serverName(host string) string {
	if display(host) == hub {
		return "https://index.docker.io/v1/"
	}
	return host
}

// capped is a buffer that refuses to grow beyond its limit, and says so to full. It embeds nothing: io.Copy would find
// bytes.Buffer's ReadFrom, which knows no limit.
type capped struct {
	b     bytes.Buffer
	limit int
	full  func()
}

func (b *capped) Write(p []byte) (int, error) {
	if b.b.Len()+len(p) > b.limit {
		b.full()
		return 0, spec.Errorf(errdefs.ErrResourceExhausted, "the answer has more than %d bytes", b.limit)
	}
	return b.b.Write(p)
}
