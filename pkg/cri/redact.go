package cri

import (
	"encoding/base64"
	"slices"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// redactor hides the secrets of one request in any text. Nothing below the door should print one; a registry's answer
// that repeats what it was sent does.
type redactor []string

// minSecret: hiding shorter ones would only spell them out by the gaps.
const minSecret = 4

// secretsOf collects the secrets of a request: those of PullImage, the only one that has any. Each is hidden as it is,
// in base64 as it is sent, and quoted.
func secretsOf(req any) redactor {
	pull, ok := req.(*v1.PullImageRequest)
	if !ok || pull.GetAuth() == nil {
		return nil
	}
	a := pull.GetAuth()
	out := redactor{a.GetPassword(), a.GetAuth(), a.GetIdentityToken(), a.GetRegistryToken()}
	if b, err := base64.StdEncoding.DecodeString(a.GetAuth()); err == nil {
		_, password, _ := strings.Cut(string(b), ":")
		out = append(out, string(b), password)
	}
	out = append(out, base64.StdEncoding.EncodeToString([]byte(a.GetUsername()+":"+a.GetPassword())))
	out = slices.DeleteFunc(out, func(s string) bool { return len(s) < minSecret })
	// The longest first: a secret may be part of another.
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

func (r redactor) in(text string) string {
	for _, secret := range r {
		text = strings.ReplaceAll(text, secret, "(hidden)")
	}
	return text
}
