package registrytest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// On applies i to the requests whose path contains part, and leaves the others alone.
func On(part string, i Intercept) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, part) {
			i(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Times applies i to the first n requests that reach it.
func Times(n int64, i Intercept) Intercept {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if seen.Add(1) <= n {
			i(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Status answers with a code, and headers given as pairs.
func Status(code int, headers ...string) Intercept {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// Serve answers with a document.
func Serve(contentType string, body []byte) Intercept {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

// Redirect sends the same path and query to another place.
func Redirect(code int, base string) Intercept {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.RequestURI(), code)
	}
}

// Changed serves the registry's own answer with other bytes; its length header is the new one's.
func Changed(change func([]byte) []byte) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		body := change(rec.Body.Bytes())
		copyHeader(w, rec)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(rec.Code)
		w.Write(body)
	}
}

// Flip changes one byte.
func Flip() Intercept {
	return Changed(func(b []byte) []byte {
		b = append([]byte(nil), b...)
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return b
	})
}

// Longer adds bytes at the end, without a length header.
func Longer(extra int) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
		w.(http.Flusher).Flush()
		w.Write(make([]byte, extra))
	}
}

// Short ends in good order, chunked, after n bytes.
func Short(n int) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		w.(http.Flusher).Flush()
	}
}

// Reset sends n bytes of the answer, then resets the connection (RST).
func Reset(n int) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 %d OK\r\n", rec.Code)
		rec.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
		rec.Header().Write(buf)
		io.WriteString(buf, "\r\n")
		buf.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		buf.Flush()
		// Give the client time to read what was sent: a reset throws unread bytes away.
		time.Sleep(20 * time.Millisecond)
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
}

// Hang sends the first n bytes of the answer (none: not even the headers), then nothing until the client leaves.
func Hang(n int) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n > 0 {
			rec := record(r, next)
			copyHeader(w, rec)
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}
}

// Drip sends one byte at a time, until the client leaves.
func Drip(every time.Duration) Intercept {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.WriteHeader(rec.Code)
		for _, b := range rec.Body.Bytes() {
			if _, err := w.Write([]byte{b}); err != nil || r.Context().Err() != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(every)
		}
	}
}

// Endless sends a header and then spaces for ever.
func Endless(code int, contentType string) Intercept {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		spaces := []byte(strings.Repeat(" ", 32<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	}
}

func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

func copyHeader(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
}
