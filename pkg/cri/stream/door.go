package stream

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ServeHTTP is the door: whatever is not a request with a good ticket, from who is meant to use one, is refused here.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		s.refuse(w, r, http.StatusMethodNotAllowed, "only GET and POST begin a session")
		return
	}
	if why := stranger(r, s.host, s.TLS != nil); why != "" {
		s.refuse(w, r, http.StatusForbidden, why)
		return
	}
	verb, token, ok := parsePath(r.URL)
	if !ok {
		s.refuse(w, r, http.StatusNotFound, "there is nothing here")
		return
	}
	t, ok := s.tickets.redeem(verb, token)
	if !ok {
		s.refuse(w, r, http.StatusNotFound, "the address is not known, has been used, or is more than a minute old: ask for a new one")
		return
	}
	s.begin(w, r, t)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	s.Log.Warn("a streaming request is refused", "peer", r.RemoteAddr, "code", code, "reason", why)
	w.Header().Set("Connection", "close") // a refused request may have a body, which nobody will read
	http.Error(w, why, code)
}

// stranger tells why a request is not from who bought a ticket. A page in a browser on this node could be made to send
// it: such a page always names its Origin when it opens a WebSocket, and itself, by name, as Host when its name was
// bound to our address. Who forwards requests, as the kubelet does, passes on what its own caller named and says so;
// a page cannot say that in an upgrade.
func stranger(r *http.Request, host string, secure bool) string {
	if r.Header.Get("X-Forwarded-For") != "" && r.Header.Get("Upgrade") != "" {
		return ""
	}
	if !strings.EqualFold(r.Host, host) && !localName(r.Host, host) {
		return "the Host is not the address that was given out"
	}
	for _, o := range r.Header.Values("Origin") {
		if !ownOrigin(o, r.Host, secure) {
			return "the Origin is foreign"
		}
	}
	return ""
}

// localName accepts "localhost" for a loopback address: no other machine's name is bound to it.
func localName(got, host string) bool {
	name, port, err := net.SplitHostPort(got)
	own, ownPort, e := net.SplitHostPort(host)
	if err != nil || e != nil || port != ownPort || !strings.EqualFold(name, "localhost") {
		return false
	}
	ip := net.ParseIP(own)
	return ip != nil && ip.IsLoopback()
}

func ownOrigin(origin, host string, secure bool) bool {
	u, err := url.Parse(origin)
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return err == nil && u.Scheme == scheme && strings.EqualFold(u.Host, host) && u.User == nil && (u.Path == "" || u.Path == "/")
}

// maxToken is more than a token has, in bytes.
const maxToken = 64

// parsePath splits "/verb/token". An escaped path is none of ours.
func parsePath(u *url.URL) (verb, token string, ok bool) {
	rest, ok := strings.CutPrefix(u.Path, "/")
	if !ok || u.RawPath != "" {
		return "", "", false
	}
	verb, token, ok = strings.Cut(rest, "/")
	if !ok || token == "" || len(token) > maxToken || strings.Contains(token, "/") {
		return "", "", false
	}
	switch verb {
	case verbExec, verbAttach, verbPortForward:
		return verb, token, true
	}
	return "", "", false
}
