package spec

import (
	"fmt"
	"io"
	"log/slog"
)

// RegistryAuth are the credentials that came with a pull. They are for the registry that the reference names, never for
// a mirror of it. However a value is printed or logged, only the names of its filled fields appear.
type RegistryAuth struct {
	Username      string
	Password      string
	Auth          string // base64 of "username:password"
	ServerAddress string // the registry that the credentials are for; "" is the reference's
	IdentityToken string // exchanged for an access token
	RegistryToken string // sent as a bearer token
}

// Empty tells whether there are no credentials at all.
func (a RegistryAuth) Empty() bool { return a == RegistryAuth{} }

// String names the fields that are filled, without their values.
func (a RegistryAuth) String() string {
	s := "{"
	for _, f := range []struct{ name, value string }{
		{"username", a.Username}, {"password", a.Password}, {"auth", a.Auth}, {"server_address", a.ServerAddress},
		{"identity_token", a.IdentityToken}, {"registry_token", a.RegistryToken},
	} {
		if f.value == "" {
			continue
		}
		if len(s) > 1 {
			s += " "
		}
		s += f.name + ":(hidden)"
	}
	return s + "}"
}

// GoString is String: %#v shows no secret either.
func (a RegistryAuth) GoString() string { return "spec.RegistryAuth" + a.String() }

// Format is String for every other verb: without it, %d or %x would walk the fields.
func (a RegistryAuth) Format(w fmt.State, verb rune) {
	if verb == 'v' && w.Flag('#') {
		io.WriteString(w, a.GoString())
		return
	}
	io.WriteString(w, a.String())
}

// LogValue is String for log/slog.
func (a RegistryAuth) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON is String for encoding/json: credentials are in no record.
func (a RegistryAuth) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", a.String()), nil }

// PullRequest asks for an image.
type PullRequest struct {
	Ref  string // as the user wrote it: "busybox", "registry.example:5000/app:v1", "…@sha256:…"
	Auth RegistryAuth
	// Namespace is the Kubernetes namespace of the pod that the image is for, "" where none is known. A policy may ask.
	Namespace string
}

// FsInfo is the use of one file system at a moment.
type FsInfo struct {
	Mountpoint string // absolute
	UsedBytes  uint64
	Inodes     uint64
	Timestamp  int64 // ns
}
