package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	rt "github.com/runtimed/runtimed/integration/registrytest"
)

// planted is the secret that no log, no error and no other host may ever show.
const planted = "pl4nted-s3cret-value"

func shows(s string) bool {
	for _, form := range []string{planted, base64.StdEncoding.EncodeToString([]byte("user:" + planted)), base64.StdEncoding.EncodeToString([]byte(planted))} {
		if strings.Contains(s, form) {
			return true
		}
	}
	return false
}

func pair(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func TestCredentialsOfARequest(t *testing.T) {
	basic := rt.Options{Username: "user", Password: planted}
	token := rt.Options{Username: "user", Password: planted, Token: true}
	expiring := rt.Options{Username: "user", Password: planted, Token: true, TokenUses: 2}
	oauth := rt.Options{Username: "user", Password: "other", IdentityToken: planted, Token: true}
	for _, c := range []struct {
		name    string
		options rt.Options
		auth    Auth
		want    error // nil succeeds
	}{
		{"basic, username and password", basic, Auth{Username: "user", Password: planted}, nil},
		{"basic, auth", basic, Auth{Auth: pair("user", planted)}, nil},
		{"basic, auth without padding", basic, Auth{Auth: strings.TrimRight(pair("user", planted), "=")}, nil},
		{"basic, wrong", basic, Auth{Username: "user", Password: planted + "x"}, errdefs.ErrPermissionDenied},
		{"basic, none", basic, Auth{}, errdefs.ErrPermissionDenied},
		{"token service", token, Auth{Username: "user", Password: planted}, nil},
		{"token service, expiring", expiring, Auth{Username: "user", Password: planted}, nil},
		{"token service, wrong", token, Auth{Username: "user", Password: planted + "x"}, errdefs.ErrPermissionDenied},
		{"identity token", oauth, Auth{IdentityToken: planted}, nil},
		{"identity token, wrong", oauth, Auth{IdentityToken: planted + "x"}, errdefs.ErrPermissionDenied},
		{"public, with credentials", rt.Options{}, Auth{Username: "user", Password: planted}, nil},
		{"no password", basic, Auth{Username: "user"}, errdefs.ErrInvalidArgument},
		{"auth is no base64", basic, Auth{Auth: "%" + planted}, errdefs.ErrInvalidArgument},
		{"auth is no pair", basic, Auth{Auth: base64.StdEncoding.EncodeToString([]byte(planted))}, errdefs.ErrInvalidArgument},
		{"header injection", basic, Auth{RegistryToken: planted + "\r\nX: y"}, errdefs.ErrInvalidArgument},
		{"colon in the name", basic, Auth{Username: "us:er", Password: planted}, errdefs.ErrInvalidArgument},
		{"too long", basic, Auth{Username: "user", Password: planted + strings.Repeat("x", maxSecret)}, errdefs.ErrInvalidArgument},
		{"another server", basic, Auth{Username: "user", Password: planted, ServerAddress: "https://other.example/v1/"}, errdefs.ErrInvalidArgument},
		{"server is no address", basic, Auth{Username: "user", Password: planted, ServerAddress: "https://%zz"}, errdefs.ErrInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rt.New(t, c.options)
			b := r.MustPush(t, "app:1", sample())
			var log bytes.Buffer
			cl := client(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			_, blobs, err := pull(t, cl, r.Ref("app:1"), c.auth)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				wantBlobs(t, b, blobs)
				return
			}
			outcome{c.want, ""}.check(t, err)
			if shows(err.Error()) || shows(fmt.Sprintf("%+v %#v", err, err)) || shows(log.String()) {
				t.Errorf("the secret is shown: %v, %s", err, log.String())
			}
		})
	}
}

func TestRegistryTokenAndServerAddress(t *testing.T) {
	r := rt.New(t, rt.Options{Token: true})
	b := r.MustPush(t, "app:1", sample())
	for _, address := range []string{"", r.Host, r.URL, r.URL + "/v1/"} {
		_, blobs, err := pull(t, client(t, Config{}), r.Ref("app:1"), Auth{RegistryToken: r.IssueToken(), ServerAddress: address})
		if err != nil {
			t.Fatalf("%q: %v", address, err)
		}
		wantBlobs(t, b, blobs)
	}
	if r.Count("/token") != 0 {
		t.Error("the token service was asked")
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		address, host string
		want          bool
	}{
		{"https://index.docker.io/v1/", "index.docker.io", true}, {"docker.io", "index.docker.io", true}, {"registry-1.docker.io", "index.docker.io", true},
		{"R.example", "r.example", true}, {"https://r.example:443", "r.example", true}, {"r.example:5000", "r.example", false},
		{"r.example", "r.example:5000", false}, {"https://u:p@r.example", "r.example", false}, {"r.example.evil", "r.example", false},
		{"", "r.example", false}, {"*.example", "r.example", false}, {"http://r.example/x?y", "r.example", true},
	} {
		if got := sameHost(c.address, c.host); got != c.want {
			t.Errorf("sameHost(%q, %q) = %v", c.address, c.host, got)
		}
	}
}

// Each case sends requests of a registry that wants credentials to another host, which must see none.
func TestCredentialsStayHome(t *testing.T) {
	auth := map[string]Auth{
		"password": {Username: "user", Password: planted},
		"identity": {IdentityToken: planted},
		"token":    {RegistryToken: planted},
	}
	for _, c := range []struct {
		name    string
		options rt.Options
		how     func(r, thief *rt.Registry) rt.Intercept
		realm   string // of the token service at the thief
	}{
		{"blob", rt.Options{Username: "user", Password: planted}, func(_, thief *rt.Registry) rt.Intercept { return rt.On("/blobs/", rt.Redirect(307, thief.URL)) }, ""},
		{"blob, after a token", rt.Options{Username: "user", Password: planted, IdentityToken: planted, Token: true}, func(_, thief *rt.Registry) rt.Intercept {
			return rt.On("/blobs/", rt.Redirect(307, thief.URL))
		}, ""},
		{"manifest", rt.Options{Username: "user", Password: planted}, func(_, thief *rt.Registry) rt.Intercept {
			return rt.On("/manifests/", rt.Redirect(302, thief.URL))
		}, ""},
		{"hello", rt.Options{Username: "user", Password: planted}, func(_, thief *rt.Registry) rt.Intercept { return rt.On("/v2/", rt.Redirect(307, thief.URL)) }, ""},
		{"token service 302", rt.Options{Username: "user", Password: planted, IdentityToken: planted, Token: true}, func(_, thief *rt.Registry) rt.Intercept {
			return rt.On("/token", rt.Redirect(302, thief.URL))
		}, ""},
		{"token service 307", rt.Options{Username: "user", Password: planted, IdentityToken: planted, Token: true}, func(_, thief *rt.Registry) rt.Intercept {
			return rt.On("/token", rt.Redirect(307, thief.URL))
		}, ""},
		{"realm elsewhere, plain", rt.Options{Username: "user", Password: planted, IdentityToken: planted, Token: true}, nil, "http://localhost:%s/token"},
		{"realm elsewhere, by address", rt.Options{Username: "user", Password: planted, IdentityToken: planted, Token: true}, nil, "http://127.0.0.1:%s/token"},
		{"realm on the metadata service", rt.Options{Username: "user", Password: planted, Token: true}, nil, "http://169.254.169.254/%s"},
		{"realm is a file", rt.Options{Username: "user", Password: planted, Token: true}, nil, "file:///etc/%s"},
	} {
		for kind, a := range auth {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				thief := rt.New(t, rt.Options{})
				if c.realm != "" {
					c.options.Realm = fmt.Sprintf(c.realm, thief.Host[strings.LastIndexByte(thief.Host, ':')+1:])
				}
				r := rt.New(t, c.options)
				r.MustPush(t, "app:1", sample())
				thief.MustPush(t, "app:1", sample())
				if c.how != nil {
					r.Intercept(c.how(r, thief))
				}
				_, _, err := pull(t, client(t, Config{Retries: -1}), r.Ref("app:1"), a)
				if err != nil && shows(err.Error()) {
					t.Errorf("the secret is shown: %v", err)
				}
				for _, q := range thief.Requests() {
					all := q.Query + q.Body + fmt.Sprint(q.Header)
					if q.Header.Get("Authorization") != "" && !strings.HasPrefix(q.Header.Get("Authorization"), "Bearer issued-by-thief") || shows(all) {
						t.Errorf("the other host got %s %s %s", q.Method, q.Path, all)
					}
				}
			})
		}
	}
}

func TestTLSIsNeverLeft(t *testing.T) {
	plain := rt.New(t, rt.Options{})
	r := rt.New(t, rt.Options{TLS: true, Username: "user", Password: planted})
	r.MustPush(t, "app:1", sample())
	plain.MustPush(t, "app:1", sample())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, r.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	// Even where plain HTTP is allowed: what began with TLS stays with it.
	cl := client(t, Config{Registries: map[string]Host{r.Host: {CA: ca}, plain.Host: {PlainHTTP: true}}, Retries: -1})
	for _, part := range []string{"/v2/", "/manifests/", "/blobs/"} {
		r.Intercept(rt.On(part, rt.Redirect(307, plain.URL)))
		_, _, err := pull(t, cl, r.Ref("app:1"), Auth{Username: "user", Password: planted})
		outcome{errdefs.ErrFailedPrecondition, "not used"}.check(t, err)
	}
	if n := len(plain.Requests()); n != 0 {
		t.Errorf("%d requests went out in the clear", n)
	}
}

// A hostile registry sends back what it was sent; a token service answers with a token that cannot be used.
func TestEchoedSecretsAreNotShown(t *testing.T) {
	echo := func(w http.ResponseWriter, q *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
		json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": "DENIED", "message": "you sent " + q.Header.Get("Authorization") + " " + planted}}})
	}
	for name, how := range map[string]rt.Intercept{
		"manifest": rt.On("/manifests/", echo),
		"token":    rt.On("/token", echo),
		"no token": rt.On("/token", rt.Serve("application/json", []byte(`{"refresh_token":"`+planted+`"}`))),
		"not json": rt.On("/token", rt.Serve("application/json", []byte(planted))),
		"location": rt.On("/blobs/", rt.Redirect(302, "http://other.example:1/?sig="+planted+"&x=")),
	} {
		r := rt.New(t, rt.Options{Username: "user", Password: planted, Token: name != "manifest" && name != "location"})
		r.MustPush(t, "app:1", sample())
		r.Intercept(how)
		_, _, err := pull(t, client(t, Config{Retries: -1}), r.Ref("app:1"), Auth{Username: "user", Password: planted})
		if err == nil || shows(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, mode os.FileMode, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAuthFiles(t *testing.T) {
	r := rt.New(t, rt.Options{Username: "user", Password: planted})
	b := r.MustPush(t, "team/app:1", sample())
	good, wrong := fmt.Sprintf(`{"auth":%q}`, pair("user", planted)), fmt.Sprintf(`{"auth":%q}`, pair("user", "wrong"))
	entry := func(pairs ...string) string {
		var s []string
		for i := 0; i < len(pairs); i += 2 {
			s = append(s, fmt.Sprintf("%q:%s", pairs[i], pairs[i+1]))
		}
		return `{"auths":{` + strings.Join(s, ",") + `},"credsStore":"desktop","credHelpers":{"x":"y"}}`
	}
	for _, c := range []struct {
		name  string
		files []string
		want  error
	}{
		{"by host", []string{entry(r.Host, good)}, nil},
		{"by address", []string{entry(r.URL+"/v1/", good)}, nil},
		{"by repository", []string{entry(r.Host, wrong, r.Host+"/team/app", good)}, nil},
		{"by namespace", []string{entry(r.Host, wrong, r.Host+"/team", good, r.Host+"/tea", wrong)}, nil},
		{"first file first", []string{entry(r.Host, good), entry(r.Host, wrong)}, nil},
		{"second file", []string{entry("other.example", wrong), entry(r.Host, good)}, nil},
		{"username and password", []string{entry(r.Host, fmt.Sprintf(`{"username":"user","password":%q}`, planted))}, nil},
		{"none", []string{entry("other.example", good)}, errdefs.ErrPermissionDenied},
		{"empty object", []string{`{}`}, errdefs.ErrPermissionDenied},
		{"empty file", []string{``}, errdefs.ErrFailedPrecondition},
		{"not json", []string{planted}, errdefs.ErrFailedPrecondition},
		{"wrong type", []string{`{"auths":{"x":"` + planted + `"}}`}, errdefs.ErrFailedPrecondition},
		{"bad pair", []string{entry(r.Host, `{"auth":"`+planted+`"}`)}, errdefs.ErrFailedPrecondition},
		{"too large", []string{entry("x", `{"auth":"`+strings.Repeat("x", maxAuthFile)+`"}`)}, errdefs.ErrFailedPrecondition},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{AuthFiles: []string{"/nonexistent/auth.json"}}
			for _, f := range c.files {
				cfg.AuthFiles = append(cfg.AuthFiles, write(t, 0o600, f))
			}
			_, blobs, err := pull(t, client(t, cfg), r.Ref("team/app:1"), Auth{})
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				wantBlobs(t, b, blobs)
				return
			}
			outcome{c.want, ""}.check(t, err)
			if shows(err.Error()) {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
	t.Run("the request wins", func(t *testing.T) {
		cfg := Config{AuthFiles: []string{write(t, 0o600, "garbage")}}
		if _, _, err := pull(t, client(t, cfg), r.Ref("team/app:1"), Auth{Username: "user", Password: planted}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a directory", func(t *testing.T) {
		_, _, err := pull(t, client(t, Config{AuthFiles: []string{t.TempDir()}}), r.Ref("team/app:1"), Auth{})
		outcome{errdefs.ErrFailedPrecondition, "auth file"}.check(t, err)
	})
}

func TestHubNames(t *testing.T) {
	for _, key := range []string{"https://index.docker.io/v1/", "index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/library", "docker.io/library/busybox"} {
		if _, ok := lookup(map[string]authEntry{key: {Auth: "x"}}, "index.docker.io", "library/busybox"); !ok {
			t.Errorf("%q is not found", key)
		}
	}
	for _, key := range []string{"docker.io/librar", "docker.io.evil", "library/busybox", "https://index.docker.io/v1/x", "", "/", "busybox"} {
		if _, ok := lookup(map[string]authEntry{key: {Auth: "x"}}, "index.docker.io", "library/busybox"); ok {
			t.Errorf("%q is found", key)
		}
	}
}

func TestCredentialHelper(t *testing.T) {
	r := rt.New(t, rt.Options{Username: "user", Password: planted})
	r.MustPush(t, "app:1", sample())
	script := func(body string) string { return "#!/bin/sh\nread server\n" + body + "\n" }
	answer := func(user string) string {
		return fmt.Sprintf(`echo '{"ServerURL":"x","Username":%q,"Secret":%q}'`, user, planted)
	}
	for _, c := range []struct {
		name, body string
		mode       os.FileMode
		want       error
	}{
		{"answers", script(`[ "$1" = get ] && [ "$server" = "` + r.Host + `" ] && ` + answer("user")), 0o700, nil},
		{"wrong user", script(answer("other")), 0o700, errdefs.ErrPermissionDenied},
		{"has none", script("echo credentials not found; exit 1"), 0o700, errdefs.ErrFailedPrecondition},
		{"not json", script("echo " + planted), 0o700, errdefs.ErrFailedPrecondition},
		{"no secret", script(`echo '{"Username":"user"}'`), 0o700, errdefs.ErrFailedPrecondition},
		{"endless", script("exec cat /dev/zero"), 0o700, errdefs.ErrFailedPrecondition},
		{"writable by others", script(answer("user")), 0o722, errdefs.ErrFailedPrecondition},
		{"not executable", script(answer("user")), 0o600, errdefs.ErrFailedPrecondition},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, 0o700, c.body)
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, _, err := pull(t, client(t, Config{Registries: map[string]Host{r.Host: {CredentialHelper: path}}}), r.Ref("app:1"), Auth{})
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			outcome{c.want, ""}.check(t, err)
			if shows(err.Error()) {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
	t.Run("never from an auth file", func(t *testing.T) {
		marker := filepath.Join(t.TempDir(), "ran")
		helper := write(t, 0o700, script("touch "+marker+"; "+answer("user")))
		file := write(t, 0o600, fmt.Sprintf(`{"credsStore":%q,"credHelpers":{%q:%q}}`, helper, r.Host, helper))
		_, _, err := pull(t, client(t, Config{AuthFiles: []string{file}}), r.Ref("app:1"), Auth{})
		outcome{errdefs.ErrPermissionDenied, ""}.check(t, err)
		if _, err := os.Stat(marker); err == nil {
			t.Error("a file chose what to run")
		}
	})
}

func TestTokenServiceTakesItsTime(t *testing.T) {
	r := rt.New(t, rt.Options{Username: "user", Password: planted, Token: true})
	r.MustPush(t, "app:1", sample())
	r.Intercept(rt.On("/token", rt.Hang(0)))
	_, _, err := pull(t, client(t, Config{Retries: -1, ProgressTimeout: 200 * time.Millisecond}), r.Ref("app:1"), Auth{Username: "user", Password: planted})
	unavailable.check(t, err)
}

func FuzzAuthFile(f *testing.F) {
	for _, s := range []string{`{}`, `{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"}}}`, `{"auths":{"https://index.docker.io/v1/":{"identitytoken":"x"}}}`, `{"auths":null}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseAuthFile(b)
		if err != nil {
			return
		}
		if e, ok := lookup(entries, "r.example", "team/app"); ok {
			got, err := resolve(e.credentials(), "r.example")
			if err == nil && strings.ContainsAny(got.Username+got.Password+got.RegistryToken+got.IdentityToken, "\r\n\x00") {
				t.Fatalf("control characters in %q", b)
			}
		}
	})
}
