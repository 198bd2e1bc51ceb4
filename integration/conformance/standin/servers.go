package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const masterProcess = "nginx: master process nginx -g daemon off;"

// nginx serves a page. Its first act is to take the command line of the real one's master process.
func nginx(args []string) error {
	if !strings.HasPrefix(args[0], masterProcess) {
		return unix.Exec("/proc/self/exe", []string{masterProcess}, os.Environ())
	}
	return serve("nginx", func() error {
		return os.WriteFile("/var/run/nginx.pid", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)
	})
}

// httpd serves a page and writes a line to its log for each request.
func httpd([]string) error {
	return serve("httpd", func() error {
		_, err := fmt.Fprintln(os.Stderr, "[core:notice] Command line: 'httpd -D FOREGROUND'")
		return err
	})
}

// serve listens, says that it does, and serves until it is told to stop.
func serve(name string, listening func() error) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	if err := listening(); err != nil {
		return err
	}
	page := func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s - \"%s %s\" 200\n", r.RemoteAddr, r.Method, r.URL.Path)
		fmt.Fprintf(w, "<html><body><h1>Welcome to %s!</h1></body></html>\n", name)
	}
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(l, http.HandlerFunc(page)) }()
	select {
	case err := <-failed:
		return err
	case <-stop:
		return nil
	}
}

// nonewprivs says who it may act as.
func nonewprivs([]string) error {
	_, err := fmt.Printf("Effective uid: %d\n", os.Geteuid())
	return err
}

// pause waits to be told to stop.
func pause([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	<-stop
	return nil
}
