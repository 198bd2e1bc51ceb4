package config

import (
	"slices"
	"testing"
)

func TestStreamingKeys(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Streaming)
		wrong  []string
	}{
		"the default":      {func(*Streaming) {}, nil},
		"IPv6":             {func(s *Streaming) { s.Address = "::1" }, nil},
		"a port":           {func(s *Streaming) { s.Port = 65535 }, nil},
		"all of TLS":       {func(s *Streaming) { s.TLSCert, s.TLSKey, s.ClientCA = "/c", "/k", "/a" }, nil},
		"another address":  {func(s *Streaming) { *s = Streaming{"192.0.2.1", 9, "/c", "/k", "/a", 1} }, nil},
		"a name":           {func(s *Streaming) { s.Address = "localhost" }, []string{"streaming.address"}},
		"every address":    {func(s *Streaming) { s.Address = "0.0.0.0" }, []string{"streaming.address"}},
		"open to all":      {func(s *Streaming) { s.Address = "192.0.2.1" }, []string{"streaming.address"}},
		"TLS, open to all": {func(s *Streaming) { s.Address, s.TLSCert, s.TLSKey = "192.0.2.1", "/c", "/k" }, []string{"streaming.address"}},
		"no such port":     {func(s *Streaming) { s.Port = 65536 }, []string{"streaming.port"}},
		"no time":          {func(s *Streaming) { s.IdleTimeout = 0 }, []string{"streaming.idle_timeout"}},
		"a key alone":      {func(s *Streaming) { s.TLSKey = "/k" }, []string{"streaming.tls_key"}},
		"a CA alone":       {func(s *Streaming) { s.ClientCA = "/a" }, []string{"streaming.client_ca"}},
		"relative paths": {func(s *Streaming) { s.TLSCert, s.TLSKey, s.ClientCA = "c", "k", "a" },
			[]string{"streaming.client_ca", "streaming.tls_cert", "streaming.tls_key"}},
	} {
		conf := Default()
		c.change(&conf.Streaming)
		var wrong []string
		for _, p := range conf.validate() {
			wrong = append(wrong, p.Key)
		}
		slices.Sort(wrong)
		if !slices.Equal(wrong, c.wrong) {
			t.Errorf("%s: %q, not %q", name, wrong, c.wrong)
		}
	}
	if a := (Streaming{Address: "::1", Port: 7}).Listen(); a.String() != "[::1]:7" {
		t.Errorf("%s", a)
	}
	if a := (Streaming{Address: "x"}).Listen(); a.IsValid() {
		t.Errorf("%s", a)
	}
}
