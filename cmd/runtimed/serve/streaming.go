package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/cri/stream"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// listenStreaming takes the streaming address.
func listenStreaming(c config.Streaming, log *slog.Logger, runtime stream.Runtime) (*stream.Server, error) {
	// The wire's libraries log what clients send, each client that leaves as an error, and on standard error. Sessions
	// have lines of their own.
	klog.SetLogger(logr.Discard())
	secure, err := streamingTLS(c)
	if err != nil {
		return nil, err
	}
	return stream.Listen(stream.Options{
		Address: c.Listen(), TLS: secure, IdleTimeout: time.Duration(c.IdleTimeout) * time.Second, Log: log,
	}, runtime)
}

// streamingTLS reads the certificates; nil is no TLS.
func streamingTLS(c config.Streaming) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	cert, err := readSmall(c.TLSCert, false)
	if err != nil {
		return nil, err
	}
	key, err := readSmall(c.TLSKey, true)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, spec.Invalidf("streaming.tls_cert %s and tls_key %s: %v", c.TLSCert, c.TLSKey, err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if c.ClientCA == "" {
		return out, nil
	}
	ca, err := readSmall(c.ClientCA, false)
	if err != nil {
		return nil, err
	}
	out.ClientAuth, out.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(ca) {
		return nil, spec.Invalidf("streaming.client_ca %s holds no certificate in PEM", c.ClientCA)
	}
	return out, nil
}

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 1 << 20

// readSmall reads a regular file. One that is secret must not be readable by others than its owner and group.
func readSmall(path string, secret bool) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, spec.Invalidf("%s is not a file (%s)", path, info.Mode())
	}
	if secret && info.Mode().Perm()&0o007 != 0 {
		return nil, spec.Invalidf("%s can be read by every user (%s): chmod 600 it", path, info.Mode())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("has more than %d bytes", maxPEM)}
	}
	return b, err
}
