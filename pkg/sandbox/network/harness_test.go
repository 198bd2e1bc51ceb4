package network

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
)

// TestMain runs everything in network and mount namespaces of its own: no test ever sees the node's.
func TestMain(m *testing.M) {
	const mark = "RUNTIMED_NETWORK_TEST_NAMESPACE"
	if os.Getenv(mark) != "" {
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), mark+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	must(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// ns is a network namespace of a test.
type ns struct {
	t    testing.TB
	fd   int
	path string // of its pin
}

// newNS makes a namespace, pinned in a directory of the test as a pod's is, with loopback up.
func newNS(t testing.TB, name string) *ns {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(os.WriteFile(path, nil, 0o600))
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		made <- errors.Join(unix.Unshare(unix.CLONE_NEWNET),
			unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""))
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err)
	n := &ns{t: t, fd: fd, path: path}
	t.Cleanup(n.remove)
	n.run(func() { up("lo") })
	return n
}

// remove unpins; it may be called again.
func (n *ns) remove() {
	if n.fd >= 0 {
		unix.Close(n.fd)
		must(unix.Unmount(n.path, unix.MNT_DETACH))
		n.fd = -1
	}
}

// run calls f on a thread in the namespace.
func (n *ns) run(f func()) {
	own, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err)
	defer unix.Close(own)
	must(inNetns(n.fd, own, func() error { f(); return nil }))
}

// sh runs a command in the namespace.
func (n *ns) sh(args ...string) string {
	n.t.Helper()
	var out []byte
	var err error
	n.run(func() { out, err = exec.Command(args[0], args[1:]...).CombinedOutput() })
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func up(name string) {
	l, err := netlink.LinkByName(name)
	must(err)
	must(netlink.LinkSetUp(l))
}

// serve answers every connection, and every datagram, with the address that it came from.
func (n *ns) serve(network, addr string) {
	n.t.Helper()
	var err error
	n.run(func() {
		if strings.HasPrefix(network, "udp") {
			var c net.PacketConn
			if c, err = net.ListenPacket(network, addr); err == nil {
				n.t.Cleanup(func() { c.Close() })
				go echoPackets(c)
			}
			return
		}
		var l net.Listener
		if l, err = net.Listen(network, addr); err == nil {
			n.t.Cleanup(func() { l.Close() })
			go echoConns(l)
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func echoPackets(c net.PacketConn) {
	b := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo([]byte(from.String()+"\n"), from)
	}
}

func echoConns(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, c.RemoteAddr())
		c.Close()
	}
}

// ask returns the IP that a server saw.
func (n *ns) ask(network, addr string) (seen string, err error) {
	n.run(func() {
		var c net.Conn
		if c, err = net.DialTimeout(network, addr, 3*time.Second); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		if strings.HasPrefix(network, "udp") {
			_, err = c.Write([]byte("?"))
		}
		var line string
		if err == nil {
			line, err = bufio.NewReader(c).ReadString('\n')
		}
		if err == nil {
			seen, _, err = net.SplitHostPort(strings.TrimSpace(line))
		}
	})
	return seen, err
}

// reach fails the test unless the server sees from; "" is any.
func (n *ns) reach(network, addr, from string) {
	n.t.Helper()
	seen, err := n.ask(network, addr)
	if err != nil {
		n.t.Errorf("%s %s: %v", network, addr, err)
	} else if from != "" && seen != from {
		n.t.Errorf("%s %s: the server saw %s, want %s", network, addr, seen, from)
	}
}

// refuse fails the test if the server answers.
func (n *ns) refuse(network, addr string) {
	n.t.Helper()
	var err error
	n.run(func() {
		var c net.Conn
		if c, err = net.DialTimeout(network, addr, 300*time.Millisecond); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		c.Write([]byte("?"))
		_, err = io.ReadFull(c, make([]byte, 1))
	})
	if err == nil {
		n.t.Errorf("%s %s answers, and must not", network, addr)
	}
}

const (
	nodeIP4, outsideIP4 = "192.0.2.1", "192.0.2.2"
	nodeIP6, outsideIP6 = "2001:db8::1", "2001:db8::2"
)

// newNode makes the namespace of a node and, behind its uplink, that of everything outside.
func newNode(t testing.TB) (node, outside *ns) {
	node, outside = newNS(t, "node"), newNS(t, "outside")
	node.run(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "uplink"
		v := netlink.NewVeth(attrs)
		v.PeerName, v.PeerNamespace = "uplink", netlink.NsFd(outside.fd)
		must(netlink.LinkAdd(v))
	})
	for _, end := range []struct {
		n    *ns
		a, b string
	}{{node, nodeIP4, nodeIP6}, {outside, outsideIP4, outsideIP6}} {
		end.n.run(func() {
			l, err := netlink.LinkByName("uplink")
			must(err)
			must(setSysctls([]sysctl{{"ipv6/conf/uplink/accept_dad", "0"}}))
			must(netlink.LinkSetUp(l))
			for _, s := range []string{end.a + "/24", end.b + "/64"} {
				a, err := netlink.ParseAddr(s)
				must(err)
				if a.IP.To4() == nil {
					a.Flags = unix.IFA_F_NODAD
				}
				must(netlink.AddrAdd(l, a))
			}
		})
	}
	return node, outside
}

func config(t testing.TB, subnets ...string) Config {
	if len(subnets) == 0 {
		subnets = []string{"10.88.0.0/16", "fd00:88::/64"}
	}
	s, err := ParseSubnets(subnets)
	must(err)
	return Config{Bridge: "rtbr0", Table: "runtimed", Subnets: s, NetnsDir: t.TempDir()}
}

// start makes a Network on the node and recovers it.
func start(t testing.TB, node *ns, cfg Config, live map[string]spec.NetworkResult, observe step.Observer) *Network {
	t.Helper()
	var n *Network
	var err error
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	node.run(func() { n, err = New(cfg, Options{Log: log, Observe: observe}) })
	if err == nil {
		err = n.Recover(t.Context(), live)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// testPod is a connected pod.
type testPod struct {
	*ns
	id     string
	result spec.NetworkResult
	v4, v6 string
}

func request(pod *ns, ports ...spec.PortMapping) spec.NetworkRequest {
	return spec.NetworkRequest{SandboxID: newID(), Netns: pod.path, Ports: ports}
}

func addPod(t testing.TB, n *Network, ports ...spec.PortMapping) *testPod {
	t.Helper()
	p := &testPod{ns: newNS(t, "pod")}
	r := request(p.ns, ports...)
	var err error
	p.id = r.SandboxID
	if p.result, err = n.Add(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	for _, a := range p.result.Addresses {
		if strings.Contains(a.IP, ":") {
			p.v6 = a.IP
		} else {
			p.v4 = a.IP
		}
	}
	return p
}

func join(ip string, port int) string { return net.JoinHostPort(ip, fmt.Sprint(port)) }
