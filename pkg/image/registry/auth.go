package registry

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Auth holds the credentials of a request.
type Auth = spec.RegistryAuth

// maxSecret bounds each field, in bytes; the largest known are tokens of some KiB.
const maxSecret = 64 << 10

// empty tells whether there is nothing to authenticate with: an address alone is no credential.
func empty(a Auth) bool {
	a.ServerAddress = ""
	return a.Empty()
}

// resolve checks a and brings it into the form that the wire needs. host is the image's registry, as requests need it.
func resolve(a Auth, host string) (authn.AuthConfig, error) {
	if empty(a) {
		return authn.AuthConfig{}, nil
	}
	for _, s := range []string{a.Username, a.Password, a.Auth, a.IdentityToken, a.RegistryToken, a.ServerAddress} {
		if len(s) > maxSecret || strings.ContainsAny(s, "\x00\r\n") {
			return authn.AuthConfig{}, spec.Invalidf("the credentials for %s hold a control character or more than %d bytes in one field", display(host), maxSecret)
		}
	}
	if a.ServerAddress != "" && !sameHost(a.ServerAddress, host) {
		return authn.AuthConfig{}, spec.Invalidf("the credentials are for another registry than the image's, %s", display(host))
	}
	if a.RegistryToken != "" {
		return authn.AuthConfig{RegistryToken: a.RegistryToken}, nil
	}
	if a.IdentityToken != "" {
		return authn.AuthConfig{IdentityToken: a.IdentityToken}, nil
	}
	if a.Username == "" && a.Password == "" {
		var err error
		if a.Username, a.Password, err = decodePair(a.Auth); err != nil {
			return authn.AuthConfig{}, spec.Invalidf("the credentials for %s: %w", display(host), err)
		}
	}
	if a.Username == "" || a.Password == "" || strings.Contains(a.Username, ":") {
		return authn.AuthConfig{}, spec.Invalidf("the credentials for %s need a username without a colon, and a password", display(host))
	}
	return authn.AuthConfig{Username: a.Username, Password: a.Password}, nil
}

// decodePair reads base64 of "username:password", padded or not. Its errors quote nothing.
func decodePair(s string) (username, password string, err error) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(s), "="))
	if err != nil {
		return "", "", spec.Invalidf("auth is not base64")
	}
	username, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", spec.Invalidf("auth is not base64 of username:password")
	}
	// Some writers pad the pair with NUL (docker/cli, cli/config/configfile).
	password = strings.Trim(password, "\x00")
	if strings.ContainsAny(username+password, "\x00\r\n") {
		return "", "", spec.Invalidf("auth holds a control character")
	}
	return username, password, nil
}

// sameHost compares a server address, as people and docker write it ("https://index.docker.io/v1/"), with a host.
func sameHost(address, host string) bool {
	h := hostOf(address)
	return h != "" && strings.EqualFold(h, canonical(host))
}

func hostOf(address string) string {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return ""
	}
	return canonical(u.Host)
}

// canonical brings the names of Docker's hub to one.
func canonical(host string) string {
	host = strings.ToLower(host)
	switch host {
	case hub, "registry-1.docker.io", "www.docker.io":
		return name.DefaultRegistry
	}
	return strings.TrimSuffix(host, ":443")
}
