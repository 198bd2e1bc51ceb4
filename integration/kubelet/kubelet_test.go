//go:build kubelet

package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runtimed/runtimed/integration/daemontest"
	"github.com/runtimed/runtimed/integration/registrytest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// TestKubelet is one node's day: each check is a subtest, in order, and its name is a line of docs/kubelet.md.
func TestKubelet(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	agnhost, err := os.ReadFile(os.Getenv("RUNTIMED_AGNHOST"))
	must(t, err)
	d.Registry.MustPush(t, "agnhost:1", registrytest.Image{
		Config: registrytest.Config{Entrypoint: []string{"/agnhost"}},
		Layers: append(daemontest.Busybox(t).Layers, registrytest.Layer{Files: []registrytest.File{{Name: "agnhost", Mode: 0o755, Body: agnhost}}}),
	})
	n := newNode(t, d)
	n.check(t, "life", func(t *testing.T) { life(t, n) })
	n.kill()
	n.evented = true
	// It collects an image that it saw when it collected before, five minutes ago: this one it sees as it starts.
	if out := n.Crictl("pull", n.Registry.Ref("agnhost:1")); out.Code != 0 {
		t.Fatalf("%+v", out)
	}
	n.start()
	for _, part := range []struct {
		name string
		of   func(*testing.T, *node)
	}{
		{"volumes", volumes}, {"probes", probes}, {"security", security}, {"resources", resources}, {"ports", ports},
		{"logs", logs}, {"images", images}, {"restarts", restarts},
	} {
		n.check(t, part.name, func(t *testing.T) { part.of(t, n) })
	}
}

// check is a subtest, whose failures are its own.
func (n *node) check(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		before := n.t
		n.t = t
		defer func() { n.t = before }()
		f(t)
	})
}

func want(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%s: %q is not in %q", what, p, got)
		}
	}
}

const lifePod = `  restartPolicy: Always
  terminationGracePeriodSeconds: 5
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: kept, hostPath: {path: DIR/kept, type: DirectoryOrCreate}}
  - name: about
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  initContainers:
  - name: first
    image: BUSYBOX
    command: [sh, -c, "echo first >> /shared/order"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: sidecar
    image: BUSYBOX
    restartPolicy: Always
    command: [sh, -c, "echo sidecar >> /shared/order; trap 'echo sidecar-end >> /kept/end; exit 0' TERM; while :; do sleep 0.1; done"]
    startupProbe: {exec: {command: [test, -s, /shared/order]}, periodSeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: kept, mountPath: /kept}]
  - name: second
    image: BUSYBOX
    command: [sh, -c, "echo second >> /shared/order"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: BUSYBOX
    workingDir: /data
    command: [sh, -c, "echo to stdout; echo to stderr >&2; trap 'echo main-end >> /kept/end; exit 0' TERM; while :; do sleep 0.1; done"]
    env:
    - {name: PLAIN, value: "a value"}
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: WHERE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo poststart > /shared/poststart"]}}
      preStop: {exec: {command: [sh, -c, "echo prestop >> /kept/end"]}}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: kept, mountPath: /kept}, {name: about, mountPath: /about}]
`

func life(t *testing.T, n *node) {
	n.apply("life", lifePod)
	var s status
	n.check(t, "a static pod becomes Ready", func(t *testing.T) { s = n.ready("life") })
	id := s.container("main").id()
	n.check(t, "init containers and a native sidecar start in their order", func(t *testing.T) {
		if got := n.Exec(id, "cat /shared/order"); got != "first\nsidecar\nsecond" {
			t.Errorf("order: %q", got)
		}
		if c := s.container("sidecar"); c.State.Running == nil || !c.Ready {
			t.Errorf("sidecar: %+v", c)
		}
		if c := s.container("first"); c.State.Terminated == nil || c.State.Terminated.Reason != "Completed" {
			t.Errorf("first: %+v", c)
		}
	})
	n.check(t, "a postStart hook has run", func(t *testing.T) {
		want(t, "poststart", n.Exec(id, "cat /shared/poststart"), "poststart")
	})
	n.check(t, "environment, fields and the downward volume arrive", func(t *testing.T) {
		want(t, "env", n.Exec(id, "env; pwd; cat /about/labels"), "PLAIN=a value", "WHO=life-node", "WHERE=node", "/data", `app="life"`)
	})
	n.check(t, "exec through the kubelet", func(t *testing.T) {
		want(t, "run", n.run("life", "main", "cat /data/seed"), "from the image")
	})
	n.check(t, "logs through the kubelet", func(t *testing.T) {
		out, err := n.get("/containerLogs/default/life-node/main?timestamps=true")
		must(t, err)
		want(t, "log", out, "to stdout", "to stderr")
	})
	n.check(t, "preStop, then SIGTERM to main, then to the sidecar", func(t *testing.T) {
		n.remove("life")
		var end []byte
		daemontest.Eventually(t, 20*time.Second, func() (err error) {
			end, err = os.ReadFile(n.Dir + "/kept/end")
			if err == nil && strings.Count(string(end), "\n") < 3 {
				err = fmt.Errorf("so far %q", end)
			}
			return err
		})
		if string(end) != "prestop\nmain-end\nsidecar-end\n" {
			t.Errorf("got %q", end)
		}
	})
	n.apply("message", `  restartPolicy: Never
  containers:
  - {name: said, image: BUSYBOX, command: [sh, -c, "echo -n the reason > /dev/termination-log; exit 3"]}
  - {name: logged, image: BUSYBOX, command: [sh, -c, "echo from the log; exit 4"], terminationMessagePolicy: FallbackToLogsOnError}
`)
	n.check(t, "termination messages, from the file and from the log", func(t *testing.T) {
		s := n.await("message", "the end", func(s status) bool { return s.Phase == "Failed" })
		for name, w := range map[string]struct {
			code int
			text string
		}{"said": {3, "the reason"}, "logged": {4, "from the log\n"}} {
			if got := s.container(name).State.Terminated; got == nil || got.ExitCode != w.code || got.Message != w.text {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
	n.remove("message")
	n.apply("onfailure", `  restartPolicy: OnFailure
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, "echo x >> /v/n; [ $(wc -l < /v/n) -ge 3 ]"], volumeMounts: [{name: v, mountPath: /v}]}
`)
	n.check(t, "OnFailure restarts until it succeeds", func(t *testing.T) {
		s := n.await("onfailure", "success", func(s status) bool { return s.Phase == "Succeeded" })
		if c := s.container("main"); c.RestartCount != 2 {
			t.Errorf("%d restarts", c.RestartCount)
		}
	})
	n.remove("onfailure")
	n.apply("nocommand", `  restartPolicy: Never
  containers:
  - {name: main, image: BUSYBOX, command: [/no/such/program]}
`)
	n.check(t, "a missing program is reported as StartError, with its name", func(t *testing.T) {
		s := n.await("nocommand", "an end", func(s status) bool { return s.container("main").State.Terminated != nil })
		c := s.container("main").State.Terminated
		if c.Reason != "StartError" || c.ExitCode != 128 {
			t.Errorf("%+v", c)
		}
		want(t, "message", c.Message, "/no/such/program")
	})
	n.remove("nocommand")
}

func volumes(t *testing.T, n *node) {
	must(t, os.MkdirAll(n.Dir+"/host", 0o755))
	must(t, os.WriteFile(n.Dir+"/host/file", []byte("of the host\n"), 0o644))
	n.apply("volumes", `  terminationGracePeriodSeconds: 0
  securityContext: {fsGroup: 3000}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
  - {name: host, hostPath: {path: DIR/host}}
  - {name: all, hostPath: {path: DIR/host/file, type: File}}
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: disk, mountPath: /part, subPath: a/part}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host, readOnly: true}
    - {name: all, mountPath: /etc/one}
`)
	s := n.ready("volumes")
	id := s.container("main").id()
	n.check(t, "emptyDir on disk, with fsGroup", func(t *testing.T) {
		want(t, "group", n.Exec(id, "echo x > /disk/x && stat -c %g /disk"), "3000")
	})
	n.check(t, "emptyDir in memory, with its size", func(t *testing.T) {
		want(t, "mount", n.Exec(id, "grep ' /memory ' /proc/mounts; df -m /memory"), "tmpfs", " 16 ")
	})
	n.check(t, "subPath", func(t *testing.T) {
		want(t, "part", n.Exec(id, "echo y > /part/y && cat /disk/a/part/y"), "y")
	})
	n.check(t, "hostPath, read-only", func(t *testing.T) {
		want(t, "host", n.Exec(id, "cat /host/file; touch /host/no 2>&1; true"), "of the host", "Read-only")
	})
	n.check(t, "hostPath of one file", func(t *testing.T) {
		want(t, "one", n.Exec(id, "cat /etc/one"), "of the host")
	})
	n.check(t, "hosts, hostname and resolv.conf", func(t *testing.T) {
		want(t, "files", n.Exec(id, "cat /etc/hosts; hostname; cat /etc/resolv.conf"), "Kubernetes-managed hosts file", s.PodIP, "volumes-node")
	})
	n.remove("volumes")
}

func probes(t *testing.T, n *node) {
	n.apply("probes", `  terminationGracePeriodSeconds: 0
  containers:
  - name: exec
    image: BUSYBOX
    command: [sleep, "100000"]
    readinessProbe: {exec: {command: [test, -e, /bin/sh]}, periodSeconds: 1}
  - name: http
    image: AGNHOST
    args: [netexec, --http-port=8080, --udp-port=-1]
    startupProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1}
  - name: tcp
    image: BUSYBOX
    command: [httpd, -f, -p, "8090"]
    readinessProbe: {tcpSocket: {port: 8090}, periodSeconds: 1}
  - name: grpc
    image: AGNHOST
    args: [grpc-health-checking, --port=5000, --http-port=8088]
    readinessProbe: {grpc: {port: 5000}, periodSeconds: 1}
`)
	s := n.ready("probes")
	for _, name := range []string{"exec", "http", "tcp", "grpc"} {
		n.check(t, name+" probe", func(t *testing.T) {
			if !s.container(name).Ready {
				t.Errorf("%+v", s.container(name))
			}
		})
	}
	n.remove("probes")
	n.apply("liveness", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "touch /tmp/well; sleep 4; rm /tmp/well; sleep 100000"]
    livenessProbe: {exec: {command: [test, -e, /tmp/well]}, periodSeconds: 1, failureThreshold: 2, initialDelaySeconds: 1}
`)
	n.check(t, "a failed liveness probe restarts the container", func(t *testing.T) {
		n.await("liveness", "a restart", func(s status) bool { return s.container("main").RestartCount > 0 })
	})
	n.remove("liveness")
	n.apply("slowprobe", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    readinessProbe: {exec: {command: [sleep, "99"]}, periodSeconds: 1, timeoutSeconds: 1}
`)
	n.check(t, "a probe that exceeds its time fails and leaves no process", func(t *testing.T) {
		s := n.await("slowprobe", "its start", func(s status) bool { return s.container("main").State.Running != nil })
		time.Sleep(5 * time.Second)
		if s := n.await("slowprobe", "its start", func(s status) bool { return s.container("main").State.Running != nil }); s.ready() {
			t.Error("ready")
		}
		if got := strings.Fields(n.Exec(s.container("main").id(), "pgrep -f 'sleep 99' | wc -l")); len(got) != 1 || got[0] > "2" {
			t.Errorf("processes of the probe: %v", got)
		}
	})
	n.remove("slowprobe")
}

func security(t *testing.T, n *node) {
	n.apply("security", `  terminationGracePeriodSeconds: 0
  hostUsers: false
  shareProcessNamespace: true
  securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: "20000 30000"}]}
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
      seccompProfile: {type: RuntimeDefault}
  - name: other
    image: BUSYBOX
    command: [sleep, "99999"]
    securityContext: {runAsUser: 1000, runAsNonRoot: true}
`)
	s := n.ready("security")
	id := s.container("main").id()
	n.check(t, "hostUsers: false is a user namespace of its own", func(t *testing.T) {
		if got := strings.Fields(n.Exec(id, "cat /proc/self/uid_map")); len(got) != 3 || got[1] == "0" {
			t.Errorf("uid_map %v", got)
		}
	})
	n.check(t, "shareProcessNamespace", func(t *testing.T) {
		want(t, "ps", n.Exec(id, "ps -o args"), "sleep 99999", "sleep 100000")
	})
	n.check(t, "read-only root, capabilities, no_new_privs, seccomp", func(t *testing.T) {
		want(t, "status", n.Exec(id, "cat /proc/self/status; touch /no 2>&1; true"),
			"CapEff:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2", "Read-only")
	})
	n.check(t, "runAsUser", func(t *testing.T) {
		want(t, "id", n.Exec(s.container("other").id(), "id"), "uid=1000", "2000")
	})
	n.check(t, "sysctls", func(t *testing.T) {
		want(t, "range", n.Exec(id, "cat /proc/sys/net/ipv4/ip_local_port_range"), "20000\t30000")
	})
	n.remove("security")
	n.apply("privileged", `  terminationGracePeriodSeconds: 0
  hostNetwork: true
  hostPID: true
  containers:
  - {name: main, image: BUSYBOX, command: [sleep, "100000"], securityContext: {privileged: true}}
`)
	n.check(t, "privileged, hostNetwork and hostPID", func(t *testing.T) {
		s := n.ready("privileged")
		want(t, "node", n.Exec(s.container("main").id(), "ip -o link; ps -o args; grep Seccomp: /proc/self/status"), "node0", "runtimed", "Seccomp:\t0")
	})
	n.remove("privileged")
}

func resources(t *testing.T, n *node) {
	n.apply("limits", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
  - name: hog
    image: BUSYBOX
    command: [sh, -c, "sleep 2; tail /dev/zero"]
    resources: {limits: {memory: 32Mi}}
`)
	n.check(t, "an OOM kill is reported and restarted with back-off", func(t *testing.T) {
		s := n.await("limits", "the back-off", func(s status) bool {
			c := s.container("hog")
			return c.RestartCount >= 1 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
		})
		if last := s.container("hog").LastState.Terminated; last == nil || last.Reason != "OOMKilled" || last.ExitCode != 137 {
			t.Errorf("last state %+v", last)
		}
		if c := s.container("main"); c.RestartCount != 0 || c.State.Running == nil {
			t.Errorf("the neighbour: %+v", c)
		}
	})
	n.check(t, "requests and limits are in the cgroup", func(t *testing.T) {
		s, err := n.pod("limits")
		must(t, err)
		id := s.container("main").id()
		got := n.Exec(id, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max")
		want(t, "limits", got, "67108864", "50000")
	})
	n.check(t, "stats/summary has the pod and its containers", func(t *testing.T) {
		daemontest.Eventually(t, time.Minute, func() error {
			out, err := n.get("/stats/summary")
			if err == nil && !regexp.MustCompile(`(?s)"name": "limits-node".*"workingSetBytes": [1-9]`).MatchString(out) {
				err = fmt.Errorf("%.2000s", out)
			}
			return err
		})
	})
	n.check(t, "metrics/cadvisor has the container's series", func(t *testing.T) {
		daemontest.Eventually(t, time.Minute, func() error {
			out, err := n.get("/metrics/cadvisor")
			if err == nil && !regexp.MustCompile(`container_memory_working_set_bytes\{[^}]*container="main"[^}]*pod="limits-node"`).MatchString(out) {
				err = fmt.Errorf("no such series in %d bytes", len(out))
			}
			return err
		})
	})
	n.remove("limits")
}

func ports(t *testing.T, n *node) {
	n.apply("ports", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: AGNHOST
    args: [netexec, --http-port=8080, --udp-port=-1]
    ports: [{containerPort: 8080, hostPort: 18080}]
    readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1}
`)
	n.ready("ports")
	n.check(t, "hostPort", func(t *testing.T) {
		daemontest.Eventually(t, 20*time.Second, func() error {
			if out := n.Run("wget", "-qO-", "-T", "5", "http://"+nodeIP+":18080/hostname"); !strings.Contains(out.Stdout, "ports-node") {
				return fmt.Errorf("%+v", out)
			}
			return nil
		})
	})
	n.remove("ports")
}

func logs(t *testing.T, n *node) {
	n.apply("chatty", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i 0123456789012345678901234567890123456789012345678901234567890123456789; [ $((i%200)) -ne 0 ] || sleep 0.1; done; sleep 100000"]
`)
	n.check(t, "logs are rotated at 1 MiB, and no line is lost", func(t *testing.T) { rotated(t, n) })
	n.remove("chatty")
}

// rotated reads all of a rotated log while it is written: the kubelet keeps five files, so they are collected as they come.
func rotated(t *testing.T, n *node) {
	n.ready("chatty")
	seen, files := map[string]bool{}, map[string]bool{}
	line := regexp.MustCompile(`F (line \d+) `)
	daemontest.Eventually(t, 2*time.Minute, func() error {
		found, _ := filepath.Glob(podLogs + "/default_chatty-node_*/main/*")
		for _, f := range found {
			if strings.HasSuffix(f, ".gz") || strings.HasSuffix(f, ".tmp") {
				files[f] = true
				out := n.Run("gzip", "-dc", f)
				for _, m := range line.FindAllStringSubmatch(out.Stdout, -1) {
					seen[m[1]] = true
				}
				continue
			}
			body, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			files[f] = true
			for _, m := range line.FindAllStringSubmatch(string(body), -1) {
				seen[m[1]] = true
			}
		}
		if len(seen) < 40000 {
			return fmt.Errorf("%d of 40000 lines in %d files", len(seen), len(files))
		}
		return nil
	})
	if len(files) < 3 {
		t.Errorf("only %d files: nothing was rotated", len(files))
	}
}

func images(t *testing.T, n *node) {
	n.apply("absent", `  restartPolicy: Never
  containers:
  - {name: main, image: "`+n.Registry.Ref("absent:1")+`"}
`)
	n.check(t, "an image that is not there is ErrImagePull, then ImagePullBackOff", func(t *testing.T) {
		n.await("absent", "the back-off", func(s status) bool {
			w := s.container("main").State.Waiting
			return w != nil && w.Reason == "ImagePullBackOff"
		})
	})
	n.remove("absent")
	n.check(t, "image GC takes what no pod uses, and spares what one does", func(t *testing.T) {
		n.apply("user", "  terminationGracePeriodSeconds: 0\n  containers:\n  - {name: main, image: BUSYBOX, command: [sleep, \"100000\"]}\n")
		n.ready("user")
		daemontest.Eventually(t, 7*time.Minute, func() error {
			if out := n.Crictl("images").Stdout; strings.Contains(out, "agnhost") || !strings.Contains(out, "busybox") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		n.remove("user")
	})
}

// restarts kills what may be killed: no container restarts.
func restarts(t *testing.T, n *node) {
	n.apply("steady", `  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done"]
    readinessProbe: {exec: {command: [test, -e, /bin/sh]}, periodSeconds: 1}
`)
	first := n.ready("steady").container("main")
	same := func(t *testing.T) {
		t.Helper()
		c := n.ready("steady").container("main")
		if c.ContainerID != first.ContainerID || c.RestartCount != 0 || c.State.Running.StartedAt != first.State.Running.StartedAt {
			t.Errorf("before %+v, now %+v", first, c)
		}
		want(t, "exec", n.Exec(first.id(), "echo alive"), "alive")
	}
	n.check(t, "the kubelet restarted", func(t *testing.T) { n.kill(); n.start(); same(t) })
	n.check(t, "runtimed restarted", func(t *testing.T) { n.Stop(); n.Restart(); same(t) })
	n.check(t, "runtimed killed", func(t *testing.T) {
		for range 3 {
			n.Kill9()
			n.Restart()
			same(t)
		}
	})
	n.check(t, "both killed", func(t *testing.T) { n.kill(); n.Kill9(); n.Restart(); n.start(); same(t) })
	n.check(t, "an exit while runtimed is down is seen, and restarted", func(t *testing.T) {
		n.apply("exits", "  terminationGracePeriodSeconds: 0\n  containers:\n  - {name: main, image: BUSYBOX, command: [sh, -c, \"sleep 6; exit 7\"]}\n")
		n.await("exits", "its start", func(s status) bool { return s.container("main").State.Running != nil })
		n.Kill9()
		time.Sleep(7 * time.Second)
		n.Restart()
		s := n.await("exits", "a restart", func(s status) bool { return s.container("main").RestartCount > 0 })
		if last := s.container("main").LastState.Terminated; last == nil || last.ExitCode != 7 {
			t.Errorf("%+v", last)
		}
		n.remove("exits")
	})
	n.check(t, "evented PLEG is in use", func(t *testing.T) {
		out, err := n.get("/metrics")
		must(t, err)
		if !regexp.MustCompile(`(?m)^kubelet_evented_pleg_connection_success_count [1-9]`).MatchString(out) {
			t.Error("no connection to the runtime's events was made")
		}
	})
	n.check(t, "no log line was lost over all of it", func(t *testing.T) {
		found, _ := filepath.Glob(podLogs + "/default_steady-node_*/main/0.log")
		if len(found) != 1 {
			t.Fatalf("%v", found)
		}
		body, err := os.ReadFile(found[0])
		must(t, err)
		for i, m := range regexp.MustCompile(`F tick (\d+)`).FindAllStringSubmatch(string(body), -1) {
			if m[1] != fmt.Sprint(i+1) {
				t.Fatalf("line %d is tick %s", i+1, m[1])
			}
		}
	})
	n.remove("steady")
	n.check(t, "nothing is left", func(t *testing.T) {
		n.kill()
		n.RemoveAll()
		if out := n.CLI("doctor", "--leaks"); out.Code != 0 {
			t.Errorf("%+v", out)
		}
	})
}
