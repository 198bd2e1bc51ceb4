package conf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// MaxFile is the size of a configuration file, in bytes, and of a whole list.
	MaxFile = 1 << 20
	// maxPlugins is how many plugins a list may have, maxName how long a network's name may be: with a sandbox's id it is
	// the name of a file.
	maxPlugins = 64
	maxName    = 128
)

// Network is one network's configuration.
type Network struct {
	// File is where it was read from, "" for one that was recorded.
	File string
	List *libcni.NetworkConfigList
}

// Load reads the network of the directory: the first *.conflist, *.conf or *.json by name. Files whose names begin with a
// dot, and lists of the plugin loopback alone, are passed over.
func Load(dir string) (*Network, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the directory of network configurations, %s, is not there", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("network configurations in %s: %w", dir, err)
	}
	for _, e := range entries { // sorted by name
		if !isCandidate(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		b, err := read(path)
		if errors.Is(err, errDirectory) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var n *Network
		if err == nil {
			n, err = parseFile(path, b)
		}
		if err != nil {
			return nil, fmt.Errorf("network configuration %s in %s: %w", e.Name(), dir, err)
		}
		if len(n.List.Plugins) == 1 && n.List.Plugins[0].Network.Type == "loopback" {
			continue
		}
		return n, nil
	}
	return nil, fmt.Errorf("there is no network configuration (*.conflist, *.conf or *.json) in %s", dir)
}

func isCandidate(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".conflist", ".conf", ".json"}, filepath.Ext(name))
}

var errDirectory = errors.New("it is a directory")

// read returns a regular file that only its owner and group may write.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold the reader
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, errDirectory
	case !st.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case st.Mode()&0o002 != 0:
		return nil, errors.New("everybody may write it, and it names programs that run as root: chmod o-w it")
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("it is larger than %d bytes", MaxFile)
	}
	return b, err
}

func parseFile(path string, b []byte) (*Network, error) {
	if filepath.Ext(path) != ".conflist" {
		var err error
		if b, err = asList(b); err != nil {
			return nil, err
		}
	}
	raw, list, err := parse(b)
	if err != nil {
		return nil, err
	}
	if !list.LoadOnlyInlinedPlugins {
		if err := addSnippets(raw, filepath.Join(filepath.Dir(path), list.Name)); err != nil {
			return nil, err
		}
	}
	n, err := normal(raw, list.CNIVersion)
	if err != nil {
		return nil, err
	}
	n.File = path
	return n, nil
}

// asList makes a list of one plugin's configuration, the form of before lists; of one that is a list it makes nothing.
func asList(b []byte) ([]byte, error) {
	var one map[string]any
	if err := json.Unmarshal(b, &one); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if _, is := one["plugins"]; is {
		return b, nil
	}
	list := map[string]any{"plugins": []any{one}, "loadOnlyInlinedPlugins": true}
	for _, key := range []string{"name", "cniVersion"} {
		if v, is := one[key]; is {
			list[key] = v
		}
	}
	return json.Marshal(list)
}

// parse reads a list without what stands in other files.
func parse(b []byte) (map[string]any, *libcni.NetworkConfigList, error) {
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, nil, fmt.Errorf("it is not JSON: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return nil, nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, nil, fmt.Errorf("its name %q: %s", cut(list.Name), err.Msg)
	}
	if len(list.Name) > maxName {
		return nil, nil, fmt.Errorf("its name has %d bytes, more than %d", len(list.Name), maxName)
	}
	newer, err := version.GreaterThan(list.CNIVersion, version.Current())
	if err != nil {
		return nil, nil, fmt.Errorf("its cniVersion %q: %w", cut(list.CNIVersion), err)
	}
	if newer {
		return nil, nil, fmt.Errorf("its cniVersion is %s: this release speaks %s and before", list.CNIVersion, version.Current())
	}
	return raw, list, nil
}

// addSnippets adds the plugins of the directory that has the network's name (CNI specification 1.1, section 1).
func addSnippets(raw map[string]any, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	plugins, _ := raw["plugins"].([]any)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".conf" {
			continue
		}
		b, err := read(filepath.Join(dir, e.Name()))
		if errors.Is(err, errDirectory) {
			continue
		}
		var one map[string]any
		if err == nil {
			err = json.Unmarshal(b, &one)
		}
		if err != nil {
			return fmt.Errorf("its part %s: %w", filepath.Join(dir, e.Name()), err)
		}
		plugins = append(plugins, one)
	}
	raw["plugins"] = plugins
	return nil
}

// normal is the list with all its plugins inside and one version.
func normal(raw map[string]any, cniVersion string) (*Network, error) {
	if list, _ := raw["plugins"].([]any); len(list) == 0 {
		return nil, errors.New("it names no plugin")
	}
	raw["loadOnlyInlinedPlugins"] = true
	delete(raw, "cniVersions")
	raw["cniVersion"] = cniVersion
	if cniVersion == "" {
		raw["cniVersion"] = "0.1.0" // what the specification takes where none is named
	}
	b, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("with all its parts it is larger than %d bytes", MaxFile)
	}
	return Parse(b)
}

// Parse reads a list in the normal form: one whose plugins are all inside.
func Parse(b []byte) (*Network, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxFile)
	}
	_, list, err := parse(b)
	switch {
	case err != nil:
		return nil, err
	case !list.LoadOnlyInlinedPlugins:
		return nil, errors.New("plugins of it are in other files")
	case len(list.Plugins) == 0:
		return nil, errors.New("it names no plugin")
	case len(list.Plugins) > maxPlugins:
		return nil, fmt.Errorf("it names %d plugins, more than %d", len(list.Plugins), maxPlugins)
	}
	for _, p := range list.Plugins {
		if strings.ContainsRune(p.Network.Type, filepath.Separator) {
			return nil, fmt.Errorf("the plugin's type %q is a path", cut(p.Network.Type))
		}
	}
	return &Network{List: list}, nil
}

// Programs are the plugins that the list names, in order, with those for addresses.
func (n *Network) Programs() []string {
	var out []string
	for _, p := range n.List.Plugins {
		for _, name := range []string{p.Network.Type, p.Network.IPAM.Type} {
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// Can tells whether a plugin of the list takes the capability's argument.
func (n *Network) Can(capability string) bool {
	return slices.ContainsFunc(n.List.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// Speaks tells whether the list's version is that one or a later: CHECK came with 0.4.0, GC and STATUS with 1.1.0.
func (n *Network) Speaks(since string) bool {
	ok, err := version.GreaterThanOrEqualTo(n.List.CNIVersion, since)
	return ok && err == nil
}

func cut(s string) string { return s[:min(len(s), 64)] }

// Check tells what is wrong with the text of a *.conflist, as far as that can be told from it alone.
func Check(b []byte) error {
	_, list, err := parse(b)
	if err == nil && len(list.Plugins) == 0 && list.LoadOnlyInlinedPlugins {
		err = errors.New("it names no plugin")
	}
	return err
}
