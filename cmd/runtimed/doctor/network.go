package doctor

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/sandbox/leak"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni"
)

func networks(ctx context.Context, c config.Config) []Result {
	if c.Network.Mode == config.NetworkCNI {
		return plugins(ctx, c)
	}
	cfg, err := Network(c)
	if err != nil {
		return []Result{bad("network", "correct the configuration", "%v", err)}
	}
	var out []Result
	_, err = os.Stat(c.Layout().Socket())
	for _, f := range network.Check(ctx, cfg) {
		out = append(out, finding(f, err == nil))
	}
	if len(out) == 0 {
		out = append(out, ok("network", "bridge %s, nothing is in its way", c.Network.Bridge))
	}
	return out
}

// plugins is the check of a network of CNI plugins: it runs them, as a daemon does.
func plugins(ctx context.Context, c config.Config) []Result {
	var out []Result
	for _, f := range cni.Check(ctx, c.CNIConfig()) {
		r := bad("network", f.Fix, "%s: %s", f.What, f.Why)
		if f.Doubtful {
			r.Verdict = Note
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		out = append(out, ok("network", "CNI plugins, configured in %s", c.Network.CNI.ConfDir))
	}
	return out
}

// finding words what the network's own check found. That the node does not forward yet is nothing to mend before a daemon
// was started: it turns that on itself.
func finding(f network.Finding, daemon bool) Result {
	r := bad("network", f.Fix, "%s: %s", f.What, f.Why)
	if !daemon && strings.HasPrefix(f.What, "net.ipv") && strings.HasSuffix(f.What, " is off") {
		r.Verdict, r.Text, r.Fix = Note, f.What+": the daemon turns it on when it starts", ""
	}
	return r
}

// Network is the network room's configuration.
func Network(c config.Config) (network.Config, error) {
	var cidrs []string
	for _, s := range []string{c.Network.Subnet, c.Network.Subnet6} {
		if s != "" {
			cidrs = append(cidrs, s)
		}
	}
	subnets, err := network.ParseSubnets(cidrs)
	return network.Config{
		Bridge: c.Network.Bridge, Subnets: subnets, Table: c.Network.NftTable, MTU: c.Network.MTU, NetnsDir: c.NetnsDir,
	}, err
}

// settle is how long what a living daemon makes or takes down may look like a leak.
const settle = 2 * time.Second

// Leaks is the leak check of a daemon with that configuration.
func Leaks(ctx context.Context, c config.Config) ([]leak.Leak, error) {
	cfg, err := Network(c)
	if err != nil {
		return nil, err
	}
	return leak.Find(ctx, leak.Options{
		Layout: c.Layout(), CgroupRoot: c.Cgroup.Root, Network: cfg, Settle: settle,
		CNIOnly: c.Network.Mode == config.NetworkCNI, CNICache: c.CNIConfig().CacheDir,
		Pool: leak.Pool{Start: c.Userns.FirstID, Size: c.Userns.Size, Count: c.Userns.Count},
	})
}
