package stats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

func TestRate(t *testing.T) {
	begin := time.Unix(1000, 0)
	type step struct {
		after, used time.Duration
		nano        uint64
		known       bool
	}
	ms, s := time.Millisecond, time.Second
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"the first knows nothing", []step{{0, 5 * s, 0, false}}},
		{"half a core", []step{{0, 0, 0, false}, {2 * s, s, 500e6, true}}},
		{"idle is zero, and known", []step{{0, s, 0, false}, {s, s, 0, true}}},
		{"too soon is not known", []step{{0, 0, 0, false}, {999 * ms, s, 0, false}, {s, s, 1e9, true}}},
		{"too soon averages since the last window began", []step{{0, 0, 0, false}, {2 * s, s, 500e6, true}, {2*s + 10*ms, s, 497512437, true}}},
		{"many questions at once do not shorten the window", []step{
			{0, 0, 0, false}, {10 * s, 10 * s, 1e9, true}, {10*s + 1, 10 * s, 999999999, true}, {10*s + 2, 10 * s, 999999999, true}, {20 * s, 10 * s, 0, true}}},
		{"a counter that went back begins anew", []step{{0, 5 * s, 0, false}, {s, 4 * s, 0, false}, {2 * s, 5 * s, 1e9, true}}},
		{"a clock that went back begins anew", []step{{5 * s, s, 0, false}, {s, s, 0, false}, {3 * s, 2 * s, 500e6, true}}},
	} {
		var r rate
		for i, st := range c.steps {
			nano, known := r.add(point{begin.Add(st.after), st.used})
			if known != st.known || known && (nano > st.nano+1 || nano+1 < st.nano) {
				t.Errorf("%s: step %d: %d, %t, not %d, %t", c.name, i, nano, known, st.nano, st.known)
			}
		}
	}
}

// A window that was measured by one timestamp each is right whatever delays come between.
func TestRateUnderDelays(t *testing.T) {
	var r rate
	at, used := time.Unix(0, 1), time.Duration(0)
	for i := range 1000 {
		d := time.Second + time.Duration(rand.Int64N(int64(time.Second)))
		at, used = at.Add(d), used+d/4
		if nano, known := r.add(point{at, used}); i > 0 && (!known || nano < 249e6 || nano > 251e6) {
			t.Fatalf("a quarter of a core is %d, %t", nano, known)
		}
	}
}

func mustWrite(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

func du(t *testing.T, dir string, args ...string) uint64 {
	t.Helper()
	out, err := exec.Command("du", append(append([]string{"-s"}, args...), dir)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWalkCountsAsDu(t *testing.T) {
	dir := t.TempDir()
	for i := range 600 {
		mustWrite(t, filepath.Join(dir, fmt.Sprintf("d%d/e%d/f%d", i%7, i%5, i)), i*37)
	}
	mustWrite(t, filepath.Join(dir, "big"), 3<<20)
	for i := range 9 {
		if err := os.Link(filepath.Join(dir, "big"), filepath.Join(dir, fmt.Sprintf("d%d/link%d", i%7, i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("/", filepath.Join(dir, "root")), os.Symlink("..", filepath.Join(dir, "d1/up")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0)); err != nil {
		t.Fatal(err)
	}
	bytes, inodes, err := walk(t.Context(), dir, -1, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := du(t, dir, "-k") << 10; bytes < want-1024 || bytes > want+1024 {
		t.Errorf("%d bytes, and du says %d", bytes, want)
	}
	if want := du(t, dir, "--inodes"); inodes != want {
		t.Errorf("%d inodes, and du says %d", inodes, want)
	}
	if _, _, err := walk(t.Context(), dir, 100, false); !errors.Is(err, errBudget) {
		t.Errorf("a walk over its budget: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := walk(ctx, dir, -1, true); !errors.Is(err, context.Canceled) {
		t.Errorf("a walk that is cancelled: %v", err)
	}
}

// A tree that is deeper than descriptors are spent on is still walked, down to there; one that leaves the file system is
// not followed.
func TestWalkOfHostileTrees(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 200 {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if _, inodes, err := walk(t.Context(), dir, -1, false); err != nil || inodes != maxDepth+2 {
		t.Errorf("%d inodes, %v", inodes, err)
	}
	for _, none := range []string{filepath.Join(dir, "none"), "/dev/null"} {
		if _, _, err := walk(t.Context(), none, -1, false); err == nil {
			t.Errorf("%s was walked", none)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := walk(t.Context(), link, -1, false); err == nil {
		t.Error("a link was followed")
	}
}

// While its owner swaps directories for links to the node's files, a walk counts nothing outside.
func TestWalkIsNotLedAstray(t *testing.T) {
	outside := t.TempDir()
	mustWrite(t, filepath.Join(outside, "huge"), 64<<20)
	dir := t.TempDir()
	for i := range 50 {
		mustWrite(t, filepath.Join(dir, fmt.Sprintf("d%d/small", i)), 10)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i = (i + 1) % 50 {
			select {
			case <-stop:
				return
			default:
			}
			d := filepath.Join(dir, fmt.Sprintf("d%d", i))
			os.Rename(d, d+".away")
			os.Symlink(outside, d)
			os.Remove(d)
			os.Rename(d+".away", d)
		}
	}()
	for range 200 {
		if bytes, _, err := walk(t.Context(), dir, -1, false); err != nil || bytes > 8<<20 {
			t.Fatalf("%d bytes, %v", bytes, err)
		}
	}
	close(stop)
	<-done
}

// groups is a kernel of the test's making.
type groups struct {
	mu   sync.Mutex
	used time.Duration
	gone bool
	cpus int // how often CPU was asked
}

func (g *groups) Use(string, bool) (spec.GroupUse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return spec.GroupUse{}, spec.NotFoundf("gone")
	}
	return spec.GroupUse{At: time.Now(), CPU: spec.CPUUse{Total: g.used}}, nil
}

func (g *groups) CPU(string) (time.Duration, time.Time, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cpus++
	if g.gone {
		return 0, time.Now(), spec.NotFoundf("gone")
	}
	return g.used, time.Now(), nil
}

func (g *groups) Processes(string) ([]int, error) { return []int{os.Getpid()}, nil }

func (g *groups) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cpus
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

func TestFirstAnswerIsSinceTheStartOfWhatIsYoung(t *testing.T) {
	g := &groups{used: 2 * time.Second}
	c := New(Options{Groups: g})
	defer c.Close()
	_, nano, err := c.Group("young", "/g", time.Now().Add(-4*time.Second), false)
	if err != nil || nano == nil || *nano < 300e6 || *nano > 501e6 {
		t.Errorf("two of four seconds: %v, %v", nano, err)
	}
	if _, nano, err := c.Group("old", "/g", time.Now().Add(-time.Hour), false); err != nil || nano != nil {
		t.Errorf("an hour's average was taken for the present: %v, %v", *nano, err)
	}
	g.gone = true
	if _, _, err := c.Group("gone", "/g", time.Now(), false); err == nil {
		t.Error("a group that is gone was read")
	}
}

// The goroutines run while somebody asks, and end.
func TestFreshOnlyWhileSomebodyAsks(t *testing.T) {
	dir := t.TempDir()
	g := &groups{}
	c := New(Options{Groups: g, Times: Times{Interest: 300 * time.Millisecond, Sample: 20 * time.Millisecond, Measure: 40 * time.Millisecond}})
	defer c.Close()
	working := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.sampling || c.walking
	}
	if working() {
		t.Error("a collector that nobody asked has goroutines")
	}
	if _, _, err := c.Group("a", "/g", time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	if d := c.Disk("a", dir); d == nil || d.Inodes != 1 {
		t.Errorf("the first answer: %v", d)
	}
	mustWrite(t, filepath.Join(dir, "f"), 1<<20)
	eventually(t, "the new file is seen", func() bool { return c.Disk("a", dir).Inodes == 2 })
	eventually(t, "samples are taken", func() bool { return g.asked() > 2 })
	eventually(t, "it comes to rest", func() bool { return !working() })
	c.work.Wait() // they have ended
	c.mu.Lock()
	if n := len(c.objects); n != 0 {
		t.Errorf("%d objects are remembered", n)
	}
	c.mu.Unlock()
	if d := c.Disk("a", dir); d.Inodes != 2 { // and begins again
		t.Errorf("after a rest: %v", d)
	}
	c.Close()
	asked := g.asked()
	c.Disk("b", dir)
	if _, _, err := c.Group("b", "/g", time.Time{}, false); err != nil || g.asked() != asked {
		t.Errorf("it works on after Close: %v", err)
	}
	c.work.Wait()
}

// A large layer is not walked while the caller waits.
func TestLargeLayersAreMeasuredInTheBackground(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 * quick {
		mustWrite(t, filepath.Join(dir, strconv.Itoa(i)), 1)
	}
	c := New(Options{Groups: &groups{}, Times: Times{Measure: 40 * time.Millisecond}})
	defer c.Close()
	if d := c.Disk("a", dir); d != nil {
		t.Errorf("the first answer: %v", d)
	}
	eventually(t, "the size is known", func() bool { d := c.Disk("a", dir); return d != nil && d.Inodes == 3*quick+1 })
	if c.Disk("b", filepath.Join(dir, "none")) != nil {
		t.Error("a layer that is not there has a size")
	}
}

// In a namespace with a pair of links the traffic of both is told, and no thread or descriptor stays there.
func TestLinks(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "ns")
	mustWrite(t, pin, 0)
	t.Cleanup(func() { unix.Unmount(pin, unix.MNT_DETACH) })
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine: it is in another namespace
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			a := netlink.NewLinkAttrs()
			a.Name = "eth0"
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "other"}); err != nil {
				return err
			}
			for _, name := range []string{"lo", "eth0", "other"} {
				if err := netlink.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
					l, err2 := netlink.LinkByName(name)
					if err2 != nil {
						return err
					}
					if err := netlink.LinkSetUp(l); err != nil {
						return err
					}
				}
			}
			return unix.Mount(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()), pin, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	c := New(Options{Groups: &groups{}})
	defer c.Close()
	fds := func() int { e, _ := os.ReadDir("/proc/self/fd"); return len(e) }
	before := fds()
	var links []spec.LinkUse
	for range 50 {
		var err error
		if links, err = c.Links(pin); err != nil {
			t.Fatal(err)
		}
	}
	if len(links) != 2 {
		t.Fatalf("links %v", links)
	}
	eventually(t, "traffic is counted", func() bool {
		links, _ = c.Links(pin)
		return links[0].TxPackets > 0 && links[1].RxBytes == links[0].TxBytes
	})
	if fds() != before {
		t.Errorf("%d descriptors, before %d", fds(), before)
	}
	if _, err := c.Links(pin + "none"); err == nil {
		t.Error("a namespace that is not there was read")
	}
}

func TestLinkUses(t *testing.T) {
	link := func(name string, flags uint32) netlink.Link {
		return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, RawFlags: flags, Statistics: &netlink.LinkStatistics{RxBytes: uint64(len(name))}}}
	}
	var many []netlink.Link
	for i := range 2 * maxLinks {
		many = append(many, link(fmt.Sprintf("v%d", i), unix.IFF_UP))
	}
	for _, c := range []struct {
		name  string
		links []netlink.Link
		want  string
	}{
		{"none", nil, ""},
		{"tunnels of the kernel's, and the loopback", []netlink.Link{link("lo", unix.IFF_UP|unix.IFF_LOOPBACK), link("sit0", 0), link("net1", unix.IFF_UP), link("eth0", unix.IFF_UP)}, "eth0 net1"},
		{"the pod's own that is down", []netlink.Link{link("eth0", 0)}, "eth0"},
		{"another name", []netlink.Link{link("tunl0", 0), link("net0", unix.IFF_UP)}, "net0"},
	} {
		var names []string
		for _, u := range linkUses(c.links) {
			names = append(names, u.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
	if got := linkUses(append(many, link("eth0", unix.IFF_UP))); len(got) != maxLinks || got[0].Name != "eth0" {
		t.Errorf("%d links, the first is %s", len(got), got[0].Name)
	}
}

func TestDetail(t *testing.T) {
	c := New(Options{Groups: &groups{}, Device: "/dev/x"})
	defer c.Close()
	d, err := c.Detail("/g", os.Getpid(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if d.Processes != 1 || d.Descriptors == nil || *d.Descriptors < 3 || d.SoftDescriptors == nil || d.FileSystem.Device != "/dev/x" || d.FileSystem.Bytes == 0 {
		t.Errorf("%+v", d)
	}
	if d, _ = c.Detail("/g", 1, "/none"); d.SoftDescriptors != nil || d.FileSystem != nil {
		t.Errorf("of a process that is another's: %+v", d)
	}
	if got := Device("/proc/self"); got != "proc" {
		t.Errorf("/proc is on %q", got)
	}
}

func BenchmarkLinks(b *testing.B) {
	c := New(Options{Groups: &groups{}})
	defer c.Close()
	for b.Loop() {
		if _, err := c.Links("/proc/self/ns/net"); err != nil {
			b.Fatal(err)
		}
	}
}
