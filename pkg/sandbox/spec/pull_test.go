package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRegistryAuthNeverPrintsASecret(t *testing.T) {
	const secret = "s3cr3t"
	auth := RegistryAuth{secret, secret, secret, secret, secret, secret}
	req := PullRequest{Ref: "busybox", Auth: auth, Namespace: "default"}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("pull", "auth", auth, "request", req, "pointer", &auth)
	}
	j, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all += fmt.Sprintf(verb, auth) + fmt.Sprintf(verb, &auth) + fmt.Sprintf(verb, req) + fmt.Sprintf(verb, &req)
	}
	if strings.Contains(all, secret) || strings.Contains(strings.ToLower(all), fmt.Sprintf("%x", secret)) {
		t.Errorf("a secret is shown in %s", all)
	}
	if got, want := (RegistryAuth{Username: "u", Password: "p"}).String(), "{username:(hidden) password:(hidden)}"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
	if !(RegistryAuth{}).Empty() || auth.Empty() {
		t.Error("Empty is wrong")
	}
}
