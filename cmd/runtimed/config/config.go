package config

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/network/cni"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/capability"
	"github.com/runtimed/runtimed/pkg/security/cdi"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

// DefaultFile is read when no other file is named. It need not exist.
const DefaultFile = "/etc/runtimed/config.toml"

// Version of the format: the value of the key version.
const Version = 1

// Config is the effective configuration. The toml tags are the keys' names; Keys says what they mean.
type Config struct {
	Version   int                 `toml:"version"`
	Root      string              `toml:"root"`
	Run       string              `toml:"run"`
	NetnsDir  string              `toml:"netns_dir"`
	Libexec   string              `toml:"libexec"`
	Socket    Socket              `toml:"socket"`
	Cgroup    Cgroup              `toml:"cgroup"`
	Network   Network             `toml:"network"`
	Userns    Userns              `toml:"userns"`
	Security  Security            `toml:"security"`
	CDI       CDI                 `toml:"cdi"`
	Image     Image               `toml:"image"`
	Trust     Trust               `toml:"trust"`
	Streaming Streaming           `toml:"streaming"`
	Log       Log                 `toml:"log"`
	Metrics   Metrics             `toml:"metrics"`
	Tracing   Tracing             `toml:"tracing"`
	Registry  map[string]Registry `toml:"registry"`

	// File is where the configuration came from, "" for the defaults alone. Lines holds the line of each key that it
	// sets, by the key's full name.
	File  string         `toml:"-"`
	Lines map[string]int `toml:"-"`
}

// Socket is the table [socket].
type Socket struct {
	AllowedUIDs []uint32 `toml:"allowed_uids"`
}

// Cgroup is the table [cgroup].
type Cgroup struct {
	Root   string `toml:"root"`
	Driver string `toml:"driver"`
}

// Network is the table [network].
type Network struct {
	Mode     string `toml:"mode"`
	Bridge   string `toml:"bridge"`
	Subnet   string `toml:"subnet"`
	Subnet6  string `toml:"subnet6"`
	NftTable string `toml:"nft_table"`
	MTU      int    `toml:"mtu"`
	CNI      CNI    `toml:"cni"`
}

// Modes of the network.
const (
	NetworkBuiltin = "builtin"
	NetworkCNI     = "cni"
)

// CNI is the table [network.cni].
type CNI struct {
	ConfDir        string   `toml:"conf_dir"`
	BinDirs        []string `toml:"bin_dirs"`
	CacheDir       string   `toml:"cache_dir"`
	ConfTemplate   string   `toml:"conf_template"`
	AddTimeout     int      `toml:"add_timeout"`
	DelTimeout     int      `toml:"del_timeout"`
	StatusInterval int      `toml:"status_interval"`
	PodAddresses   bool     `toml:"pod_addresses"`
}

// Userns is the table [userns].
type Userns struct {
	FirstID uint32 `toml:"first_id"`
	Size    uint32 `toml:"size"`
	Count   uint32 `toml:"count"`
}

// Security is the table [security].
type Security struct {
	Policy       string   `toml:"policy"`
	Capabilities []string `toml:"capabilities"`
	SeccompRoot  string   `toml:"seccomp_root"`
}

// CDI is the table [cdi].
type CDI struct {
	SpecDirs []string `toml:"spec_dirs"`
}

// Image is the table [image].
type Image struct {
	AuthFiles       []string `toml:"auth_files"`
	Parallel        int      `toml:"parallel"`
	ProgressTimeout int      `toml:"progress_timeout"`
	MaxLayerBytes   int64    `toml:"max_layer_bytes"`
	MaxLayerEntries int64    `toml:"max_layer_entries"`
	MaxLayerRatio   int      `toml:"max_layer_ratio"`
	MaxPathDepth    int      `toml:"max_path_depth"`
}

// Trust is the table [trust].
type Trust struct {
	Mode string `toml:"mode"`
}

// Streaming is the table [streaming].
type Streaming struct {
	Address     string `toml:"address"`
	Port        int    `toml:"port"`
	TLSCert     string `toml:"tls_cert"`
	TLSKey      string `toml:"tls_key"`
	ClientCA    string `toml:"client_ca"`
	IdleTimeout int    `toml:"idle_timeout"`
}

// Log is the table [log].
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Registry is a table [registry."host:port"].
type Registry struct {
	Mirrors          []string `toml:"mirrors"`
	PlainHTTP        bool     `toml:"plain_http"`
	CA               string   `toml:"ca"`
	CredentialHelper string   `toml:"credential_helper"`
}

// Default is the configuration of a node without a file.
func Default() Config {
	limits := layer.Limits{}.WithDefaults()
	return Config{
		Version: Version, Root: "/var/lib/runtimed", Run: "/run/runtimed", NetnsDir: "/run/netns",
		Socket: Socket{AllowedUIDs: []uint32{0}},
		Cgroup: Cgroup{Root: "/runtimed", Driver: string(cgroup.Auto)},
		Network: Network{
			Mode: NetworkBuiltin, Bridge: "runtimed0", Subnet: "10.63.0.0/16", Subnet6: "fd72:756e:7469::/64", NftTable: "runtimed",
			CNI: CNI{
				ConfDir: "/etc/cni/net.d", BinDirs: []string{"/opt/cni/bin", "/usr/lib/cni"},
				AddTimeout: 90, DelTimeout: 30, StatusInterval: 30,
			},
		},
		Userns:   Userns{FirstID: idmap.Default.Start, Size: idmap.Default.Size, Count: idmap.Default.Count},
		Security: Security{Policy: string(security.PolicyAuto), Capabilities: slices.Clone(capability.Default)},
		CDI:      CDI{SpecDirs: slices.Clone(cdi.DefaultDirs)},
		Image: Image{
			AuthFiles: []string{"/etc/runtimed/auth.json", "/root/.docker/config.json", "/run/containers/0/auth.json"},
			Parallel:  4, ProgressTimeout: 60,
			MaxLayerBytes: limits.Bytes, MaxLayerEntries: limits.Entries, MaxLayerRatio: limits.Ratio, MaxPathDepth: limits.Depth,
		},
		Streaming: Streaming{Address: "127.0.0.1", IdleTimeout: 4 * 3600},
		Log:       Log{Level: "info", Format: "text"},
		Metrics:   Metrics{Listen: MetricsSocket},
		Tracing:   Tracing{PerMillion: 1e6},
	}
}

// Layout names the daemon's paths.
func (c Config) Layout() spec.Layout { return spec.Layout{Root: c.Root, Run: c.Run, Netns: c.NetnsDir} }

// CNIConfig is the plugins' part of the network, for a daemon with mode "cni".
func (c Config) CNIConfig() cni.Config {
	n := c.Network.CNI
	return cni.Config{
		ConfDir: n.ConfDir, BinDirs: n.BinDirs, CacheDir: cmp.Or(n.CacheDir, filepath.Join(c.Root, "cni")), Template: n.ConfTemplate,
		AddTimeout: time.Duration(n.AddTimeout) * time.Second, DelTimeout: time.Duration(n.DelTimeout) * time.Second,
		StatusInterval: time.Duration(n.StatusInterval) * time.Second, PodAddresses: n.PodAddresses,
	}
}

// LibexecDir is where the daemon's programs are: the key libexec, or the directory of the running program.
func (c Config) LibexecDir() (string, error) {
	if c.Libexec != "" {
		return c.Libexec, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	exe, err = filepath.EvalSymlinks(exe)
	return filepath.Dir(exe), err
}
