package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"text/template"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	cidrsFile = "podcidrs.json"
	// madeFile is the configuration that is made from the template.
	madeFile    = "10-runtimed-net.conflist"
	maxTemplate = 256 << 10
)

// UsePodCIDRs takes the subnets that the cluster gave this node, and remembers them over restarts: kubelets tell them
// once. Plugins get them as the capability ipRanges, and the template is filled with them. Pods that are connected keep
// their addresses.
func (n *Network) UsePodCIDRs(_ context.Context, cidrs []netip.Prefix) error {
	n.mu.Lock()
	same := slices.Equal(n.cidrs, cidrs)
	n.cidrs = slices.Clone(cidrs)
	n.mu.Unlock()
	if !same {
		n.log.Info("the cluster has named this node's pod subnets", "subnets", cidrs)
		b, err := json.Marshal(cidrs)
		if err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(n.cfg.CacheDir, cidrsFile), b, 0o600); err != nil {
			return spec.Errorf(errdefs.ErrUnavailable, "the node's pod subnets could not be written down: %w", err)
		}
	}
	if err := n.fillTemplate(); err != nil {
		return spec.Errorf(errdefs.ErrFailedPrecondition, "network configuration from %s: %w", n.cfg.Template, err)
	}
	return nil
}

// recallCIDRs is UsePodCIDRs from the file of the last one.
func (n *Network) recallCIDRs() {
	path := filepath.Join(n.cfg.CacheDir, cidrsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var cidrs []netip.Prefix
	if err == nil {
		err = json.Unmarshal(b, &cidrs)
	}
	if err != nil {
		n.log.Warn("the node's pod subnets cannot be read; a kubelet that starts tells them again", "file", path, "error", err)
		return
	}
	n.mu.Lock()
	n.cidrs = cidrs
	n.mu.Unlock()
	if err := n.fillTemplate(); err != nil {
		n.log.Warn("no network configuration could be made", "template", n.cfg.Template, "error", err)
	}
}

// values are what a template may name: those of containerd's, so that its templates work here.
type values struct {
	PodCIDR       string
	PodCIDRRanges []string
	Routes        []string
}

// fillTemplate writes the configuration, unless another one is in the directory: who drops one there knows better.
func (n *Network) fillTemplate() error {
	n.mu.Lock()
	cidrs := n.cidrs
	n.mu.Unlock()
	if n.cfg.Template == "" || len(cidrs) == 0 {
		return nil
	}
	made := filepath.Join(n.cfg.ConfDir, madeFile)
	if there, err := n.load(); err == nil && there.File != made {
		n.log.Info("there is a network configuration: none is made from the template", "configuration", there.File)
		return nil
	}
	b, err := os.ReadFile(n.cfg.Template)
	if err != nil {
		return err
	}
	out, err := render(b, cidrs)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(made); err == nil && bytes.Equal(have, out) {
		return nil
	}
	if err := os.MkdirAll(n.cfg.ConfDir, 0o755); err != nil {
		return err
	}
	return replaceFile(made, out, 0o644)
}

// render fills the template, and refuses what would be no configuration.
func render(text []byte, cidrs []netip.Prefix) ([]byte, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("it is larger than %d bytes", maxTemplate)
	}
	t, err := template.New("template").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	v := values{PodCIDR: cidrs[0].String()}
	for _, c := range cidrs {
		v.PodCIDRRanges = append(v.PodCIDRRanges, c.String())
		route := "0.0.0.0/0"
		if !c.Addr().Is4() {
			route = "::/0"
		}
		if !slices.Contains(v.Routes, route) {
			v.Routes = append(v.Routes, route)
		}
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, err
	}
	if err := conf.Check(out.Bytes()); err != nil {
		return nil, fmt.Errorf("what the template makes is no configuration: %w", err)
	}
	return out.Bytes(), nil
}

// replaceFile writes a file as a whole or not at all. Its temporary name is none that a configuration has.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, b, mode); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
