package cni

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/plugin"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const namespaceMark = "RUNTIMED_TEST_IN_NAMESPACE"

// TestMain runs the tests in network and mount namespaces of their own.
func TestMain(m *testing.M) {
	if os.Getenv(namespaceMark) != "" {
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		lo, err := netlink.LinkByName("lo")
		must(err)
		must(netlink.LinkSetUp(lo))
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), namespaceMark+"=1")
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

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// script is an honest plugin in shell, but for what the files of its directory make it do before: "behave" is sourced.
// An address is taken while store/<address> is there; calls lists every run, stdin.<command> is what came last.
const script = `#!/bin/sh
dir=%s
cat > $dir/stdin.$CNI_COMMAND
echo "$CNI_COMMAND $CNI_CONTAINERID netns=$CNI_NETNS args=$CNI_ARGS" >> $dir/calls
version=1.0.0
[ -e $dir/behave ] && . $dir/behave
case $CNI_COMMAND in
ADD)
	n=2; while ! ( set -C; echo $CNI_CONTAINERID > $dir/store/10.9.0.$n ) 2>/dev/null; do n=$((n+1)); done
	ip=10.9.0.$n
	[ -e $dir/added ] && . $dir/added
	nsenter --net=$CNI_NETNS sh -c "ip link add eth0 type veth peer name other && ip addr add $ip/24 dev eth0 && ip link set eth0 up" || exit 1
	[ -e $dir/answer ] && { . $dir/answer; exit 0; }
	echo '{"cniVersion":"'$version'","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"interface":0,"address":"'$ip'/24","gateway":"10.9.0.1"}]}'
	;;
DEL)
	[ -e $dir/deleting ] && . $dir/deleting
	for f in $dir/store/*; do [ "$(cat $f 2>/dev/null)" = $CNI_CONTAINERID ] && rm -f $f; done
	[ -n "$CNI_NETNS" ] && nsenter --net=$CNI_NETNS ip link del eth0 2>/dev/null
	true
	;;
esac
exit 0
`

// world is a node with a directory of configurations and one plugin, actor.
type world struct {
	t   *testing.T
	dir string
	cfg Config
	n   *Network
	log *lines
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

const oneZero = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"actor","capabilities":{"portMappings":true,"bandwidth":true,"ips":true,"mac":true,"dns":true,"ipRanges":true}}]}`

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rt-cni-")
	must(err)
	w := &world{t: t, dir: dir, log: &lines{}, cfg: Config{
		ConfDir: dir + "/net.d", BinDirs: []string{dir + "/none", dir + "/bin"}, CacheDir: dir + "/cache",
		AddTimeout: 20 * time.Second, DelTimeout: 20 * time.Second, StatusInterval: time.Hour,
	}}
	for _, d := range []string{"net.d", "bin", "netns", "store"} {
		must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	w.script("actor", fmt.Sprintf(script, dir))
	w.write("net.d/10-net.conflist", oneZero)
	t.Cleanup(func() {
		w.close()
		plugin.EndStrays(w.cfg.CacheDir, func(plugin.Stray) bool { return true })
		pins, _ := filepath.Glob(dir + "/netns/*")
		for _, p := range pins {
			unix.Unmount(p, unix.MNT_DETACH)
		}
		if t.Failed() {
			t.Logf("log:\n%s\ncalls:\n%s", w.log, w.read("calls"))
		}
		os.RemoveAll(dir)
	})
	return w
}

// script writes a program by rename, so that no fork of another test's holds it open for writing.
func (w *world) script(name, body string) {
	path := filepath.Join(w.dir, "bin", name)
	must(os.WriteFile(path+".new", []byte(body), 0o755))
	must(os.Rename(path+".new", path))
}

func (w *world) write(name, body string) {
	path := filepath.Join(w.dir, name)
	must(os.WriteFile(path+".new", []byte(body), 0o644))
	must(os.Rename(path+".new", path))
}

func (w *world) remove(name string) { os.RemoveAll(filepath.Join(w.dir, name)) }

func (w *world) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(w.dir, name))
	return string(b)
}

func (w *world) close() {
	if w.n != nil {
		w.n.Close()
		w.n = nil
	}
}

// open makes a daemon's Network; it is recovered with what lives.
func (w *world) open(live map[string]spec.NetworkResult) *Network {
	w.t.Helper()
	w.close()
	n, err := New(w.cfg, Options{
		Log:        slog.New(slog.NewTextHandler(w.log, nil)),
		Recorded:   func(id string) bool { return w.read("recorded/"+id) != "" },
		FirstPause: time.Millisecond,
	})
	must(err)
	w.n = n
	if err := n.Recover(w.t.Context(), live); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// netns pins a new network namespace.
func (w *world) netns(id string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "netns", id)
	must(os.WriteFile(path, nil, 0o600))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	must(<-done)
	return path
}

func (w *world) request(change func(*spec.NetworkRequest)) spec.NetworkRequest {
	id := newID()
	r := spec.NetworkRequest{SandboxID: id, Netns: w.netns(id), Metadata: spec.Metadata{Name: "pod", Namespace: "ns", UID: "uid"}}
	if change != nil {
		change(&r)
	}
	return r
}

// add connects a pod; it must work.
func (w *world) add() (spec.NetworkRequest, spec.NetworkResult) {
	w.t.Helper()
	r := w.request(nil)
	result, err := w.n.Add(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return r, result
}

// taken are the addresses that are taken, with their owners.
func (w *world) taken() []string {
	files, _ := filepath.Glob(w.dir + "/store/*")
	var out []string
	for _, f := range files {
		out = append(out, filepath.Base(f))
	}
	return out
}

func (w *world) calls(command string) int {
	return strings.Count("\n"+w.read("calls"), "\n"+command+" ")
}

// cacheFiles are the files of the cache directory.
func (w *world) cacheFiles() []string {
	var out []string
	filepath.Walk(w.cfg.CacheDir, func(path string, st os.FileInfo, err error) error {
		if err == nil && !st.IsDir() {
			out = append(out, strings.TrimPrefix(path, w.cfg.CacheDir+"/"))
		}
		return nil
	})
	slices.Sort(out)
	return out
}

// clean fails where anything of a pod is left.
func (w *world) clean(when string) {
	w.t.Helper()
	if got := w.taken(); len(got) > 0 {
		w.t.Errorf("%s: addresses %v are taken", when, got)
	}
	if got := w.cacheFiles(); len(got) > 0 {
		w.t.Errorf("%s: %v is in the cache", when, got)
	}
	if got := plugin.Strays(w.cfg.CacheDir); len(got) > 0 {
		w.t.Errorf("%s: processes %v are left", when, got)
	}
}

// eventually waits for a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func short(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func mkdir(path string) error { return os.Mkdir(path, 0o755) }
