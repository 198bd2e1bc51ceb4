package config

import (
	"net/netip"

	"github.com/runtimed/runtimed/pkg/cri/stream"
)

func (v *validator) streaming(s Streaming) {
	v.within("streaming.port", int64(s.Port), 0, 65535)
	v.within("streaming.idle_timeout", int64(s.IdleTimeout), 1, 7*24*3600)
	for key, path := range map[string]string{
		"streaming.tls_cert": s.TLSCert, "streaming.tls_key": s.TLSKey, "streaming.client_ca": s.ClientCA,
	} {
		if path != "" {
			v.abs(key, path)
		}
	}
	v.that((s.TLSCert == "") == (s.TLSKey == ""), "streaming.tls_key", "a certificate and its key are needed together: set tls_cert and tls_key, or neither")
	v.that(s.ClientCA == "" || s.TLSCert != "", "streaming.client_ca", "clients show certificates in TLS only: set tls_cert and tls_key too")
	addr, err := netip.ParseAddr(s.Address)
	if v.that(err == nil, "streaming.address", "%q is not an IP address", s.Address) {
		if err := stream.Check(netip.AddrPortFrom(addr, 1), s.ClientCA != ""); err != nil {
			v.that(false, "streaming.address", "%v", err)
		}
	}
}

// Listen is the address and port. Of an address that is not valid, the zero value.
func (s Streaming) Listen() netip.AddrPort {
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(s.Port))
}
