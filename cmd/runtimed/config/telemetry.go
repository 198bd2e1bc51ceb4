package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
)

// MetricsSocket and MetricsOff are the words that Metrics.Listen may be, beside a path and a loopback address.
const (
	MetricsSocket = "socket"
	MetricsOff    = "off"
)

// Metrics is the table [metrics].
type Metrics struct {
	Listen string `toml:"listen"`
}

// Tracing is the table [tracing].
type Tracing struct {
	Endpoint   string `toml:"endpoint"`
	Plaintext  bool   `toml:"plaintext"`
	CA         string `toml:"ca"`
	PerMillion int    `toml:"per_million"`
}

// MetricsAddress is where metrics are served: the network "unix" or "tcp" with an address, or "" for nowhere.
func (c Config) MetricsAddress() (network, address string) {
	switch l := c.Metrics.Listen; {
	case l == MetricsOff:
		return "", ""
	case l == MetricsSocket:
		return "unix", filepath.Join(c.Run, "metrics.sock")
	case filepath.IsAbs(l):
		return "unix", l
	default:
		return "tcp", l
	}
}

// maxSocket is what sockaddr_un (unix(7)) holds, less what a listener adds to a socket's name while it is made.
const maxSocket = 100

func (v *validator) telemetry(c Config) {
	const where = "metrics.listen"
	switch network, address := c.MetricsAddress(); {
	case network == "unix" && address == c.Layout().Socket():
		v.that(false, where, "%s is the CRI's socket", address)
	case network == "unix" && v.abs(where, address):
		v.that(len(address) <= maxSocket, where, "the path has %d bytes: at most %d are possible", len(address), maxSocket)
	case network == "tcp":
		a, err := netip.ParseAddrPort(address)
		v.that(err == nil && a.Addr().IsLoopback() && a.Port() != 0, where,
			"%q is not \"socket\", \"off\", an absolute path, or a loopback address with a port, such as \"127.0.0.1:9430\"", address)
	}
	t := c.Tracing
	if t.Endpoint != "" {
		host, port, err := net.SplitHostPort(t.Endpoint)
		n, perr := strconv.ParseUint(port, 10, 16)
		v.that(err == nil && perr == nil && host != "" && n != 0, "tracing.endpoint", "%q is not HOST:PORT", t.Endpoint)
	}
	if t.CA != "" {
		v.abs("tracing.ca", t.CA)
		v.that(!t.Plaintext, "tracing.ca", "means nothing with tracing.plaintext")
	}
	v.within("tracing.per_million", int64(t.PerMillion), 0, 1e6)
}
