package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
)

var transports = []string{"spdy", "websocket"}

// streams are commands and attachments, over both transports.
func (x *transcript) streams() {
	t := x.t
	if got := x.run("exec", "-s", x.ctr, "hostname"); got != "web" {
		t.Errorf("exec -s: %q", got)
	}
	if o := x.try("", "exec", "-s", x.ctr, "/bin/sh", "-c", "echo oops >&2; exit 7"); o.Code == 0 || !strings.Contains(o.Stderr, "exited with 7: oops") {
		t.Errorf("exec -s of a program that fails: %+v", o)
	}
	for _, how := range transports {
		if got := x.run("exec", "-r", how, x.ctr, "hostname"); got != "web" {
			t.Errorf("exec over %s: %q", how, got)
		}
		if got := x.with("one\ntwo\n", "exec", "-r", how, "-i", x.ctr, "cat"); got != "one\ntwo" {
			t.Errorf("exec -i over %s: %q", how, got)
		}
		if o := x.try("", "exec", "-r", how, x.ctr, "/bin/sh", "-c", "echo out; echo err >&2; exit 7"); o.Code == 0 || o.Stdout != "out" ||
			!strings.Contains(o.Stderr, "err") || !strings.Contains(o.Stderr, "7") {
			t.Errorf("exec of a program that fails, over %s: %+v", how, o)
		}
		if got := x.terminal("exec", "-r", how, "-it", x.ctr, "tty"); !strings.Contains(got, "/dev/pts/") {
			t.Errorf("exec -it over %s: %q", how, got)
		}
		x.attach(how)
	}
}

// attach talks to a container that ends when its standard input does, and watches one that talks by itself.
func (x *transcript) attach(how string) {
	t, name := x.t, "attached-"+how
	id := x.run("create", x.pod, x.write(name+".json", fmt.Sprintf(`{"metadata": {"name": %q}, "image": {"image": %q}, "log_path": "%s.log",
		"command": ["/bin/sh", "-c", "while read line; do echo you said $line; done"], "stdin": true, "stdin_once": true}`, name, x.d.Image, name)), x.podFile)
	x.run("start", id)
	if got := x.with("good day\n", "attach", "-r", how, "-i", id); got != "you said good day" {
		t.Errorf("attach -i over %s: %q", how, got)
	}
	x.await("inspect of "+name, `"state": "CONTAINER_EXITED"`, "inspect", id)
	x.want(name, x.run("inspect", id), `"exitCode": 0`, `"reason": "Completed"`)
	x.await("logs of "+name, "you said good day", "logs", id)

	id = x.run("create", x.pod, x.write("ticks-"+how+".json", fmt.Sprintf(`{"metadata": {"name": "ticks-%s"}, "image": {"image": %q},
		"log_path": "ticks-%s.log", "command": ["/bin/sh", "-c", "while :; do echo tick; sleep 0.2; done"]}`, how, x.d.Image, how)), x.podFile)
	x.run("start", id)
	watch := x.background("", "attach", "-r", how, id)
	daemontest.Eventually(t, daemontest.Patience, func() error {
		if strings.Count(watch.said(), "tick") < 3 {
			return fmt.Errorf("attach over %s: %q", how, watch.said())
		}
		return nil
	})
	watch.end()
	x.run("rm", "-f", id)
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> 8080`)

// forward reaches a server in the pod that listens on its loopback alone.
func (x *transcript) forward() {
	t := x.t
	x.run("exec", "-s", x.ctr, "/bin/sh", "-c", "mkdir -p /tmp/www && echo welcome >/tmp/www/index.html && httpd -p 127.0.0.1:8080 -h /tmp/www")
	for _, how := range transports {
		session := x.background("", "port-forward", "-r", how, x.pod, ":8080")
		var address string
		daemontest.Eventually(t, daemontest.Patience, func() error {
			m := forwarding.FindStringSubmatch(session.said())
			if m == nil {
				return fmt.Errorf("port-forward over %s: %q", how, session.said())
			}
			address = m[1]
			return nil
		})
		client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for range 3 {
			res, err := client.Get("http://" + address)
			if err != nil {
				t.Errorf("port-forward over %s: %v; %s", how, err, session.said())
				break
			}
			if body, err := io.ReadAll(res.Body); string(body) != "welcome\n" {
				t.Errorf("port-forward over %s: %q, %v", how, body, err)
			}
			res.Body.Close()
		}
		session.end()
	}
}
