package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
	"github.com/runtimed/runtimed/pkg/image"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/registry"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/image/trust"
	"github.com/runtimed/runtimed/pkg/sandbox"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/files"
	"github.com/runtimed/runtimed/pkg/sandbox/forward"
	"github.com/runtimed/runtimed/pkg/sandbox/launch"
	"github.com/runtimed/runtimed/pkg/sandbox/namespaces"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/stats"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/apparmor"
	"github.com/runtimed/runtimed/pkg/security/cdi"
	"github.com/runtimed/runtimed/pkg/security/idmap"
	"github.com/runtimed/runtimed/pkg/security/probe"
)

// Run serves until ctx ends, then returns nil: calls in flight are finished, and containers run on. An error means that
// it could not begin, or that the socket failed. It must be called in the mount and network namespaces that pods are to
// be connected to.
func Run(ctx context.Context, c config.Config, o Options) error { return run(ctx, c, o, wire) }

// wire makes the rooms, each once, and recovers them: images and pods are as they were before the first call is served.
func wire(ctx context.Context, c config.Config, o Options) (_ rooms, err error) {
	var leave leaving
	defer func() {
		if err != nil {
			leave.all()
		}
	}()
	layout := c.Layout()
	libexec, err := programs(c)
	if err != nil {
		return rooms{}, err
	}
	if err := namespaces.PrepareRun(layout); err != nil {
		return rooms{}, err
	}
	inUse := &users{known: make(chan struct{})}
	images, err := openImages(c, o, libexec, inUse.images)
	if err != nil {
		return rooms{}, err
	}
	leave.later(images.Close)
	leave.later(inUse.end) // before the store is closed: it may be waiting for the answer
	runtime, err := newRuntime(c, o, libexec, images, &leave)
	if err != nil {
		return rooms{}, err
	}
	leave.later(func() error { runtime.Close(); return nil })
	if err := runtime.Recover(ctx); err != nil {
		return rooms{}, err
	}
	inUse.is(runtime)
	images.Collect()
	return rooms{runtime: runtime, images: images, streams: runtime, close: leave.all, runtimeSpec: specReader(layout), systemd: runtime.CgroupSystemd}, nil
}

// leaving gives back what was opened, the last first.
type leaving []func() error

func (l *leaving) later(f func() error) { *l = append(*l, f) }

func (l *leaving) all() {
	for i := len(*l) - 1; i >= 0; i-- {
		(*l)[i]()
	}
}

func openImages(c config.Config, o Options, libexec string, inUse func() []spec.ImageUse) (*image.Store, error) {
	policy, err := trust.NewPolicy(c.Trust.Mode)
	if err != nil {
		return nil, err
	}
	client, err := registry.New(registry.Config{
		Registries: c.Hosts(), AuthFiles: c.Image.AuthFiles, Log: o.Log,
		ProgressTimeout: time.Duration(c.Image.ProgressTimeout) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return image.Open(image.Options{
		Layout: c.Layout(), Registry: client, Policy: policy, OpenFile: rootfs.Open, FindFile: rootfs.Find, InUse: inUse,
		Unpacker: layer.Worker{Path: filepath.Join(libexec, "runtimed-unpack")},
		Limits: layer.Limits{
			Bytes: c.Image.MaxLayerBytes, Entries: c.Image.MaxLayerEntries,
			Ratio: c.Image.MaxLayerRatio, Depth: c.Image.MaxPathDepth,
		},
		Parallel: c.Image.Parallel, Observe: o.Observe, Log: o.Log,
	})
}

func newRuntime(c config.Config, o Options, libexec string, images *image.Store, leave *leaving) (*sandbox.Runtime, error) {
	layout := c.Layout()
	hierarchies, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	groups := cgroup.New(hierarchies, o.Observe)
	driver, err := hierarchies.Driver(cgroup.Driver(c.Cgroup.Driver))
	if err != nil {
		return nil, err
	}
	if driver == cgroup.Systemd {
		groups = groups.WithSystemd()
	}
	o.Log.Info("control groups", "mode", hierarchies.Mode, "driver", driver)
	pins := namespaces.New(namespaces.Options{
		Layout: layout, Init: filepath.Join(libexec, "runtimed-init"), Groups: groups, Observe: o.Observe,
	})
	wires, err := newNetwork(c, o)
	if err != nil {
		return nil, err
	}
	leave.later(wires.Close)
	shims, err := launch.New(launch.Options{Program: filepath.Join(libexec, "runtimed-shim"), Groups: groups, Log: o.Log})
	if err != nil {
		return nil, err
	}
	leave.later(shims.Close)
	node, err := nodeOf(c, o.Log)
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	handler, features := offered(pins, layout, &node, o.Log)
	readings := stats.New(stats.Options{Groups: groups, Device: stats.Device(layout.Root), Log: o.Log})
	leave.later(func() error { readings.Close(); return nil })
	return sandbox.New(sandbox.Options{
		Stats: readings, Ended: o.ended,
		Layout: layout, CgroupRoot: c.Cgroup.Root, CgroupV2: hierarchies.Mode == cgroup.Unified,
		CgroupSystemd: driver == cgroup.Systemd, NodeHostname: hostname,
		NoSwapLimit: hierarchies.NoSwapLimit(), NoHugepageLimit: hierarchies.NoHugepageLimit(),
		Namespaces: pins, Network: wires, Cgroups: groups, Limits: groups, Files: files.New(layout).Observed(o.Observe), Shims: shims, Sessions: shims,
		Dialer: forward.Dialer{}, Images: images,
		Node: node, Pool: idmap.Pool{Start: c.Userns.FirstID, Size: c.Userns.Size, Count: c.Userns.Count},
		CDI:      cdi.Registry{Dirs: c.CDI.SpecDirs},
		Handlers: []spec.Handler{handler}, Features: features, Observe: o.Observe, Log: o.Log,
		Leaving: o.leaving,
	})
}

// closingNetwork is what either network is.
type closingNetwork interface {
	sandbox.Network
	io.Closer
}

func newNetwork(c config.Config, o Options) (closingNetwork, error) {
	if c.Network.Mode == config.NetworkCNI {
		layout := c.Layout()
		return cni.New(c.CNIConfig(), cni.Options{Log: o.Log, Observe: o.Observe, Recorded: func(sid string) bool {
			_, err := os.Lstat(layout.Sandbox(sid))
			return !errors.Is(err, fs.ErrNotExist)
		}})
	}
	var cidrs []string
	for _, s := range []string{c.Network.Subnet, c.Network.Subnet6} {
		if s != "" {
			cidrs = append(cidrs, s)
		}
	}
	subnets, err := network.ParseSubnets(cidrs)
	if err != nil {
		return nil, err
	}
	return network.New(network.Config{
		Bridge: c.Network.Bridge, Subnets: subnets, Table: c.Network.NftTable, MTU: c.Network.MTU, NetnsDir: c.NetnsDir,
	}, network.Options{Log: o.Log, Observe: o.Observe})
}

// nodeOf is what the kernel has, under the configuration's policy.
func nodeOf(c config.Config, log *slog.Logger) (security.Node, error) {
	node, err := probe.Node()
	if err != nil {
		return security.Node{}, err
	}
	if node.AppArmor {
		if node.AppArmorDefault, err = apparmor.Load(context.Background()); err != nil {
			log.Warn("containers run without an AppArmor profile, and those that ask for the default one are refused", "error", err)
		}
	}
	node.Policy = security.Policy(c.Security.Policy)
	node.DefaultCapabilities = c.Security.Capabilities
	node.SeccompRoot, node.PoolSize = c.Security.SeccompRoot, c.Userns.Size
	return node, nil
}
