package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// TestLife: ADD with all that Kubernetes' plugins expect, and DEL with the same and the cached result.
func TestLife(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	r := w.request(func(r *spec.NetworkRequest) {
		r.Ports = []spec.PortMapping{{Protocol: spec.TCP, HostIP: "127.0.0.1", HostPort: 80, ContainerPort: 8080}, {Protocol: spec.UDP, ContainerPort: 9}}
		r.Annotations = map[string]string{IngressAnnotation: "10M", EgressAnnotation: "1500k"}
		r.DNS = &spec.DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}}
	})
	result, err := n.Add(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if want := (spec.Address{IP: "10.9.0.2", Prefix: 24, Gateway: "10.9.0.1"}); len(result.Addresses) != 1 || result.Addresses[0] != want {
		t.Errorf("addresses are %v, want %v", result.Addresses, want)
	}
	args := "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=" + r.SandboxID + ";K8S_POD_UID=uid"
	if want := "ADD " + r.SandboxID + " netns=" + r.Netns + " args=" + args + "\n"; w.read("calls") != want {
		t.Errorf("calls are\n%swant\n%s", w.read("calls"), want)
	}
	const caps = `{"bandwidth":{"egressBurst":2147483647,"egressRate":1500000,"ingressBurst":2147483647,"ingressRate":10000000},` +
		`"dns":{"options":["ndots:5"],"searches":["svc"],"servers":["10.0.0.10"]},` +
		`"portMappings":[{"containerPort":8080,"hostIP":"127.0.0.1","hostPort":80,"protocol":"tcp"}]}`
	if got := runtimeConfig(t, w.read("stdin.ADD")); got != caps {
		t.Errorf("runtimeConfig is\n%s\nwant\n%s", got, caps)
	}
	if _, err := n.Add(t.Context(), r); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("a second ADD: %v", err)
	}
	w.remove("net.d") // a DEL needs no configuration
	if err := n.Remove(t.Context(), r.SandboxID, &result); err != nil {
		t.Fatal(err)
	}
	if got := runtimeConfig(t, w.read("stdin.DEL")); got != caps {
		t.Errorf("runtimeConfig of the DEL is %s", got)
	}
	if !strings.Contains(w.read("stdin.DEL"), `"prevResult":{"cniVersion":"1.0.0"`) {
		t.Errorf("the DEL has no result: %s", w.read("stdin.DEL"))
	}
	w.clean("after the DEL")
	for range 2 {
		if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
			t.Error(err)
		}
	}
	if w.calls("DEL") != 1 {
		t.Errorf("%d DELs", w.calls("DEL"))
	}
}

func runtimeConfig(t *testing.T, stdin string) string {
	var c struct {
		RuntimeConfig map[string]any `json:"runtimeConfig"`
	}
	if err := json.Unmarshal([]byte(stdin), &c); err != nil {
		t.Error(err)
	}
	b, _ := json.Marshal(c.RuntimeConfig)
	return string(b)
}

func TestNothingBeforeRecover(t *testing.T) {
	w := newWorld(t)
	n, err := New(w.cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Add(t.Context(), w.request(nil)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("ADD: %v", err)
	}
	if c := n.Condition(); c.OK || c.Message == "" {
		t.Errorf("condition: %+v", c)
	}
	if w.read("calls") != "" {
		t.Error("a plugin was run")
	}
}

// TestConfigurationOfTheADDMakesTheDEL, whatever became of the directory.
func TestConfigurationOfTheADDMakesTheDEL(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	r, result := w.add()
	w.write("net.d/00-other.conflist", `{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"nothere"}]}`)
	if _, err := n.Add(t.Context(), w.request(nil)); err == nil || !strings.Contains(err.Error(), `plugin "nothere" is in none of`) ||
		!strings.Contains(err.Error(), "00-other.conflist") {
		t.Errorf("ADD with a plugin that is not there: %v", err)
	}
	if err := n.Remove(t.Context(), r.SandboxID, &result); err != nil {
		t.Error(err)
	}
	if got := w.taken(); len(got) > 0 {
		t.Errorf("%v are taken", got)
	}
}

// TestNetnsThatIsGone: the DEL names none, also where the pin's file is still there after a reboot.
func TestNetnsThatIsGone(t *testing.T) {
	for _, file := range []bool{true, false} {
		w := newWorld(t)
		n := w.open(nil)
		r, _ := w.add()
		must(unix.Unmount(r.Netns, 0))
		if !file {
			must(os.Remove(r.Netns))
		}
		if err := n.Remove(t.Context(), r.SandboxID, nil); err != nil {
			t.Error(err)
		}
		if want := fmt.Sprintf("DEL %s netns= ", r.SandboxID); !strings.Contains(w.read("calls"), want) {
			t.Errorf("calls are %s", w.read("calls"))
		}
		w.clean("after the DEL")
	}
}

func TestRefusedRequests(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	for name, c := range map[string]struct {
		change func(*spec.NetworkRequest)
		kind   error
		says   string
	}{
		"an argument in the name": {func(r *spec.NetworkRequest) { r.Metadata.Name = "a;K8S_POD_NAME=b" }, errdefs.ErrInvalidArgument, "K8S_POD_NAME"},
		"a bandwidth of nothing":  {func(r *spec.NetworkRequest) { r.Annotations = map[string]string{IngressAnnotation: "10"} }, errdefs.ErrInvalidArgument, "1k to 1P"},
		"an address of its own":   {func(r *spec.NetworkRequest) { r.Annotations = map[string]string{AddressesAnnotation: "10.9.0.9"} }, errdefs.ErrFailedPrecondition, "pod_addresses"},
		"SCTP without the kernel's": {func(r *spec.NetworkRequest) {
			r.Ports = []spec.PortMapping{{Protocol: spec.SCTP, HostPort: 99, ContainerPort: 1}}
		}, errdefs.ErrFailedPrecondition, "this kernel has no SCTP"},
	} {
		if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP); err == nil && strings.Contains(name, "SCTP") {
			unix.Close(fd)
			continue // this kernel has it
		}
		_, err := n.Add(t.Context(), w.request(c.change))
		if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.clean("after refusals")
	if w.read("calls") != "" {
		t.Error("a plugin was run")
	}
}

func TestChosenAddresses(t *testing.T) {
	w := newWorld(t)
	w.cfg.PodAddresses = true
	n := w.open(nil)
	r := w.request(func(r *spec.NetworkRequest) {
		r.Annotations = map[string]string{AddressesAnnotation: "10.9.0.9/24, fd00::9", MACAnnotation: "02:00:00:00:00:09"}
	})
	if _, err := n.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := runtimeConfig(t, w.read("stdin.ADD")); got != `{"ips":["10.9.0.9/24","fd00::9"],"mac":"02:00:00:00:00:09"}` {
		t.Errorf("runtimeConfig is %s", got)
	}
}

// TestUnmetWishesAreSaid: a network whose own daemon publishes ports names no capability.
func TestUnmetWishesAreSaid(t *testing.T) {
	w := newWorld(t)
	w.write("net.d/10-net.conflist", `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"actor"}]}`)
	n := w.open(nil)
	r := w.request(func(r *spec.NetworkRequest) {
		r.Ports = []spec.PortMapping{{Protocol: spec.TCP, HostPort: 80, ContainerPort: 80}}
	})
	if _, err := n.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.log.String(), "capability=portMappings") {
		t.Errorf("the log says\n%s", w.log)
	}
}

func TestPodCIDRs(t *testing.T) {
	w := newWorld(t)
	n := w.open(nil)
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:3::/64")}
	for range 2 {
		if err := n.UsePodCIDRs(t.Context(), cidrs); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{"ipRanges":[[{"subnet":"10.244.3.0/24"}],[{"subnet":"fd00:3::/64"}]]}`
	w.add()
	if got := runtimeConfig(t, w.read("stdin.ADD")); got != want {
		t.Errorf("runtimeConfig is %s", got)
	}
	w.open(nil) // a kubelet does not tell again
	w.add()
	if got := runtimeConfig(t, w.read("stdin.ADD")); got != want {
		t.Errorf("runtimeConfig after a restart is %s", got)
	}
	w.write("cache/podcidrs.json", "nonsense")
	w.open(nil)
	w.add()
	if got := runtimeConfig(t, w.read("stdin.ADD")); got != "null" {
		t.Errorf("runtimeConfig after damage is %s", got)
	}
}

// TestTemplate: containerd's templates make a configuration, where none is there.
func TestTemplate(t *testing.T) {
	const template = `{"cniVersion":"1.0.0","name":"made","plugins":[{"type":"actor","ipam":{"type":"actor",
 "ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet":"{{$r}}"}]{{end}}],
 "routes":[{{range $i, $r := .Routes}}{{if $i}},{{end}}{"dst":"{{$r}}"}{{end}}],"first":"{{.PodCIDR}}"}}]}`
	w := newWorld(t)
	w.cfg.Template = w.dir + "/template"
	w.write("template", template)
	w.remove("net.d")
	n := w.open(nil)
	if c := n.Condition(); c.OK || !strings.Contains(c.Message, w.cfg.ConfDir) {
		t.Errorf("condition without a configuration: %+v", c)
	}
	tell := func(cidrs ...string) error {
		var all []netip.Prefix
		for _, c := range cidrs {
			all = append(all, netip.MustParsePrefix(c))
		}
		return n.UsePodCIDRs(t.Context(), all)
	}
	if err := tell("10.244.3.0/24", "fd00:3::/64"); err != nil {
		t.Fatal(err)
	}
	made := w.read("net.d/" + madeFile)
	for _, part := range []string{`[{"subnet":"10.244.3.0/24"}],[{"subnet":"fd00:3::/64"}]`, `{"dst":"0.0.0.0/0"},{"dst":"::/0"}`, `"first":"10.244.3.0/24"`} {
		if !strings.Contains(made, part) {
			t.Errorf("%s lacks %s", made, part)
		}
	}
	w.eventually("the made configuration is used", func() bool { return n.Condition().OK })
	if err := tell("10.244.4.0/24"); err != nil || !strings.Contains(w.read("net.d/"+madeFile), "10.244.4.0/24") {
		t.Errorf("a changed subnet: %v, %s", err, w.read("net.d/"+madeFile))
	}
	w.write("net.d/05-mine.conflist", oneZero)
	if err := tell("10.244.5.0/24"); err != nil || !strings.Contains(w.read("net.d/"+madeFile), "10.244.4.0/24") {
		t.Errorf("beside another configuration: %v, %s", err, w.read("net.d/"+madeFile))
	}
	w.remove("net.d/05-mine.conflist")
	for _, bad := range []string{"{{.Nothing}}", "{{", "not JSON", `{"name":"x","plugins":[],"loadOnlyInlinedPlugins":true}`} {
		w.write("template", bad)
		if err := tell("10.244.6.0/24"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("template %q: %v", bad, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{ConfDir: "/a", BinDirs: []string{"/b"}, CacheDir: "/c", AddTimeout: time.Second, DelTimeout: time.Second, StatusInterval: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"relative configurations": func(c *Config) { c.ConfDir = "a" },
		"unclean cache":           func(c *Config) { c.CacheDir = "/c/" },
		"no plugins":              func(c *Config) { c.BinDirs = nil },
		"relative plugins":        func(c *Config) { c.BinDirs = []string{"b"} },
		"relative template":       func(c *Config) { c.Template = "t" },
		"no time to add":          func(c *Config) { c.AddTimeout = 0 },
		"all time to delete":      func(c *Config) { c.DelTimeout = 2 * time.Hour },
		"no interval":             func(c *Config) { c.StatusInterval = 0 },
	} {
		c := good
		change(&c)
		if _, err := New(c, Options{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
