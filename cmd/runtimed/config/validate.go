package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/capability"
)

const (
	// maxRun keeps every socket path below run within sockaddr_un (unix(7)).
	maxRun = 70
	// idBlock is the grain of user id ranges (the kubelet's too).
	idBlock = 65536
	// minFirstID lies beyond what a kubelet with 2,000 pods hands out.
	minFirstID = 0x08000000
	// overflowID is nobody: every user that has no id here seems to be that one.
	overflowID = 65534
)

// validate finds everything that is impossible, also in what belongs together.
func (c Config) validate() []Problem {
	v := validator{}
	v.that(c.Version == Version, "version", "%d is unknown: this release reads version %d", c.Version, Version)
	v.paths(c)
	for _, id := range c.Socket.AllowedUIDs {
		v.that(id != overflowID && id != 1<<32-1, "socket.allowed_uids", "%d stands for every user that has no id on this node", id)
	}
	if err := cgroup.CheckParent(c.Cgroup.Root); err != nil || c.Cgroup.Root == "" || c.Cgroup.Root == "/" {
		v.that(false, "cgroup.root", "%q is not an absolute, clean path below the hierarchies' root, such as \"/runtimed\"", c.Cgroup.Root)
	}
	v.oneOf("cgroup.driver", c.Cgroup.Driver, string(cgroup.Auto), string(cgroup.Cgroupfs), string(cgroup.Systemd))
	v.network(c.Network)
	v.oneOf("network.mode", c.Network.Mode, NetworkBuiltin, NetworkCNI)
	v.cni(c)
	v.userns(c.Userns)
	v.security(c.Security)
	v.cdi(c.CDI)
	v.image(c.Image)
	v.registries(c.Registry)
	v.streaming(c.Streaming)
	if _, err := trust.NewPolicy(c.Trust.Mode); err != nil {
		v.that(false, "trust.mode", "%v", err)
	}
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	v.telemetry(c)
	return v
}

type validator []Problem

func (v *validator) that(ok bool, key, format string, args ...any) bool {
	if !ok {
		*v = append(*v, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	return ok
}

func (v *validator) oneOf(key, value string, possible ...string) {
	v.that(slices.Contains(possible, value), key, "%q is not one of %q", value, possible)
}

// within checks a number's range.
func (v *validator) within(key string, n, low, high int64) {
	v.that(n >= low && n <= high, key, "%d is out of range: %d to %d", n, low, high)
}

// abs checks a path's form.
func (v *validator) abs(key, path string) bool {
	return v.that(filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/" && !strings.ContainsFunc(path, isControl),
		key, "%q is not an absolute, clean path", path)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (v *validator) paths(c Config) {
	ok := v.abs("root", c.Root)
	ok = v.abs("run", c.Run) && ok
	ok = v.abs("netns_dir", c.NetnsDir) && ok
	if c.Libexec != "" {
		v.abs("libexec", c.Libexec)
	}
	v.that(len(c.Run) <= maxRun, "run", "has %d bytes: at most %d are possible, or socket paths get too long", len(c.Run), maxRun)
	// overlayfs takes ':' and ',' in a lower directory for its own, and '\' for an escape.
	v.that(!strings.ContainsAny(c.Root, `:,\`), "root", "%q holds one of ':', ',' and '\\', which overlayfs takes for its own", c.Root)
	if !ok {
		return
	}
	v.that(!within(c.Root, c.Run) && !within(c.Run, c.Root), "run", "%s and root, %s, lie within one another: take separate directories", c.Run, c.Root)
	v.that(!within(c.NetnsDir, c.Run) && !within(c.NetnsDir, c.Root), "netns_dir",
		"%s lies within root or run, which others do not see: take a directory of its own", c.NetnsDir)
}

// within tells whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// network checks each key beside values that are right, so that an error is the key's own.
func (v *validator) network(n Network) {
	subnets, _ := network.ParseSubnets([]string{"10.0.0.0/16"}) // right by its own word
	good := network.Config{Bridge: "br0", Subnets: subnets, Table: "t"}
	check := func(key string, c network.Config) {
		if err := c.Validate(); err != nil {
			v.that(false, key, "%v", err)
		}
	}
	c := good
	c.Bridge = n.Bridge
	check("network.bridge", c)
	c = good
	c.Table = n.NftTable
	check("network.nft_table", c)
	for key, cidr := range map[string]string{"network.subnet": n.Subnet, "network.subnet6": n.Subnet6} {
		if cidr == "" {
			continue
		}
		var err error
		c = good
		if c.Subnets, err = network.ParseSubnets([]string{cidr}); err != nil {
			v.that(false, key, "%v", err)
			continue
		}
		is4 := c.Subnets[0].Prefix.Addr().Is4()
		if v.that(is4 == (key == "network.subnet"), key, "%s is of the other IP version", cidr) {
			check(key, c)
		}
	}
	v.that(n.Subnet != "" || n.Subnet6 != "", "network.subnet", "is empty, and so is network.subnet6: pods need one of them")
	c = good
	c.MTU = n.MTU
	if n.Subnet6 != "" {
		c.Subnets, _ = network.ParseSubnets([]string{"fd00::/64"})
	}
	check("network.mtu", c)
}

func (v *validator) cni(c Config) {
	n := c.Network.CNI
	v.abs("network.cni.conf_dir", n.ConfDir)
	v.that(len(n.BinDirs) > 0, "network.cni.bin_dirs", "is empty: plugins are nowhere")
	for _, d := range n.BinDirs {
		v.abs("network.cni.bin_dirs", d)
	}
	if n.CacheDir != "" && v.abs("network.cni.cache_dir", n.CacheDir) {
		v.that(!within(n.CacheDir, c.Run), "network.cni.cache_dir", "%s lies within run, which does not survive a reboot", n.CacheDir)
	}
	if n.ConfTemplate != "" {
		v.abs("network.cni.conf_template", n.ConfTemplate)
	}
	v.within("network.cni.add_timeout", int64(n.AddTimeout), 1, 3600)
	v.within("network.cni.del_timeout", int64(n.DelTimeout), 1, 3600)
	v.within("network.cni.status_interval", int64(n.StatusInterval), 1, 3600)
}

func (v *validator) userns(u Userns) {
	v.that(u.FirstID%idBlock == 0 && u.FirstID >= minFirstID, "userns.first_id",
		"%d is not a multiple of %d from %d up: below are the node's own users and the kubelet's ranges", u.FirstID, idBlock, minFirstID)
	v.that(u.Size != 0 && u.Size%idBlock == 0, "userns.size", "%d is not a multiple of %d", u.Size, idBlock)
	v.that(u.Count != 0, "userns.count", "is 0: no pod could have a user namespace")
	v.that(uint64(u.FirstID)+uint64(u.Size)*uint64(u.Count) < 1<<32, "userns.count",
		"%d ranges of %d ids from %d up reach beyond the last id, 4294967294", u.Count, u.Size, u.FirstID)
}

func (v *validator) cdi(c CDI) {
	for _, d := range c.SpecDirs {
		v.abs("cdi.spec_dirs", d)
	}
}

func (v *validator) security(s Security) {
	v.oneOf("security.policy", s.Policy, string(security.PolicyAuto), string(security.PolicyCRI))
	if s.SeccompRoot != "" {
		v.abs("security.seccomp_root", s.SeccompRoot)
	}
	for _, name := range s.Capabilities {
		_, err := capability.Normal(name)
		v.that(err == nil && !strings.EqualFold(name, "all"), "security.capabilities",
			"%q is not the name of one capability, such as \"CAP_CHOWN\"", name)
	}
}

func (v *validator) image(i Image) {
	for _, f := range i.AuthFiles {
		v.abs("image.auth_files", f)
	}
	v.within("image.parallel", int64(i.Parallel), 1, 64)
	v.within("image.progress_timeout", int64(i.ProgressTimeout), 1, 3600)
	v.within("image.max_layer_bytes", i.MaxLayerBytes, 1<<20, 1<<50)
	v.within("image.max_layer_entries", i.MaxLayerEntries, 1, 1<<32)
	v.within("image.max_layer_ratio", int64(i.MaxLayerRatio), 1, 1<<20)
	v.within("image.max_path_depth", int64(i.MaxPathDepth), 1, 1000)
}

func (v *validator) registries(all map[string]Registry) {
	for host, r := range all {
		name := join("registry", host)
		if _, err := registry.New(registry.Config{Registries: map[string]registry.Host{host: r.host()}}); err != nil {
			v.that(false, name, "%v", err)
		}
	}
}

func (r Registry) host() registry.Host {
	return registry.Host{Mirrors: r.Mirrors, PlainHTTP: r.PlainHTTP, CA: r.CA, CredentialHelper: r.CredentialHelper}
}

// Hosts are the tables of registries as the registry client takes them.
func (c Config) Hosts() map[string]registry.Host {
	out := make(map[string]registry.Host, len(c.Registry))
	for host, r := range c.Registry {
		out[host] = r.host()
	}
	return out
}
