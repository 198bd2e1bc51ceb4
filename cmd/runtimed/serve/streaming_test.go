package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/cri/fake"
	"github.com/runtimed/runtimed/pkg/cri/stream"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestStreamingIsServedAndEndsWithTheDaemon(t *testing.T) {
	r := start(t, shortDir(t), nil)
	c := v1.NewRuntimeServiceClient(r.dial(t))
	sid, err := r.runtime.RunSandbox(t.Context(), spec.SandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.PortForward(t.Context(), &v1.PortForwardRequest{PodSandboxId: sid})
	if err != nil || !strings.HasPrefix(got.GetUrl(), "http://127.0.0.1:") {
		t.Errorf("PortForward: %q, %v", got.GetUrl(), err)
	}
	r.stop(t)
}

func TestStreamingAddressThatIsTakenRefusesTheStart(t *testing.T) {
	taken, err := listenStreaming(config.Default().Streaming, slog.New(slog.DiscardHandler), &fake.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close(t.Context())
	url, err := taken.Exec(stream.ExecTarget{})
	if err != nil {
		t.Fatal(err)
	}
	port := strings.Split(strings.TrimPrefix(url, "http://127.0.0.1:"), "/")[0]
	c := config.Default().Streaming
	for _, d := range port {
		c.Port = c.Port*10 + int(d-'0')
	}
	if _, err := listenStreaming(c, slog.New(slog.DiscardHandler), &fake.Streams{}); err == nil || !strings.Contains(err.Error(), port) {
		t.Errorf("a port that is taken: %v", err)
	}
}

func TestStreamingCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	write := func(name string, b []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := config.Streaming{TLSCert: write("cert", cert, 0o644), TLSKey: write("key", key, 0o600), ClientCA: write("ca", cert, 0o644)}
	got, err := streamingTLS(good)
	if err != nil || len(got.Certificates) != 1 || got.ClientAuth != tls.RequireAndVerifyClientCert || got.ClientCAs == nil {
		t.Errorf("all of it: %+v, %v", got, err)
	}
	if got, err := streamingTLS(config.Streaming{}); got != nil || err != nil {
		t.Errorf("none of it: %v, %v", got, err)
	}
	for name, c := range map[string]config.Streaming{
		"a key for all":     {TLSCert: good.TLSCert, TLSKey: write("open", key, 0o644)},
		"no such key":       {TLSCert: good.TLSCert, TLSKey: dir + "/none"},
		"no such cert":      {TLSCert: dir + "/none", TLSKey: good.TLSKey},
		"a directory":       {TLSCert: dir, TLSKey: good.TLSKey},
		"not a certificate": {TLSCert: good.TLSKey, TLSKey: good.TLSKey},
		"a huge file":       {TLSCert: write("huge", make([]byte, maxPEM+1), 0o600), TLSKey: good.TLSKey},
		"no CA in the file": {TLSCert: good.TLSCert, TLSKey: good.TLSKey, ClientCA: good.TLSKey},
		"no such CA":        {TLSCert: good.TLSCert, TLSKey: good.TLSKey, ClientCA: dir + "/none"},
	} {
		if _, err := streamingTLS(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
