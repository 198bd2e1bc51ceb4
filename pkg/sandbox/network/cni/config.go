package cni

import (
	"path/filepath"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Config says where plugins and configurations are, and how long plugins may take.
type Config struct {
	ConfDir string   // the first configuration in it, by name, is the pods' network
	BinDirs []string // searched in order
	// CacheDir holds what is known of attachments. It survives a reboot, and is one daemon's alone.
	CacheDir string
	// Template is a file from which a configuration is made once the node's subnets are known; "" is none.
	Template string

	AddTimeout time.Duration // for all plugins of one ADD
	DelTimeout time.Duration // for all plugins of one DEL, CHECK or GC
	// StatusInterval is how old the answer to a question for the network's state may be.
	StatusInterval time.Duration
	// PodAddresses: annotations may name a pod's addresses.
	PodAddresses bool
}

// Validate tells what is wrong with the configuration, as an InvalidArgument.
func (c Config) Validate() error {
	for what, path := range map[string]string{"configuration directory": c.ConfDir, "cache directory": c.CacheDir} {
		if !isClean(path) {
			return spec.Invalidf("CNI %s %q is not a clean absolute path", what, path)
		}
	}
	if len(c.BinDirs) == 0 {
		return spec.Invalidf("no directory of CNI plugins is configured")
	}
	for _, path := range c.BinDirs {
		if !isClean(path) {
			return spec.Invalidf("CNI plugin directory %q is not a clean absolute path", path)
		}
	}
	if c.Template != "" && !isClean(c.Template) {
		return spec.Invalidf("CNI configuration template %q is not a clean absolute path", c.Template)
	}
	for what, d := range map[string]time.Duration{"ADD": c.AddTimeout, "DEL": c.DelTimeout} {
		if d < time.Second || d > time.Hour {
			return spec.Invalidf("time of a CNI %s is %v: 1 s to 1 h are possible", what, d)
		}
	}
	if c.StatusInterval < time.Second || c.StatusInterval > time.Hour {
		return spec.Invalidf("interval of CNI STATUS is %v: 1 s to 1 h are possible", c.StatusInterval)
	}
	return nil
}

func isClean(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }
