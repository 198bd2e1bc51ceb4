// Package sysctl decides which kernel parameters a pod may set.
//
// It owns the allow-list: a parameter is allowed when the kernel keeps one value of it per namespace and the pod has
// that namespace for itself. It sets nothing.
package sysctl

import (
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Own says which namespaces the pod has for itself.
type Own struct{ Net, IPC bool }

var (
	keyForm   = regexp.MustCompile(`^[a-z0-9_-]+(\.[A-Za-z0-9_-]+)+$`)
	valueForm = regexp.MustCompile(`^[0-9A-Za-z ._,-]{0,256}$`)
)

const maxSysctls = 256

// Check returns the parameters to set, or what is wrong with one: CVE-2022-0811 reached kernel.core_pattern through a
// value with '+' and a key that nobody looked at.
func Check(want map[string]string, own Own) (map[string]string, error) {
	if len(want) > maxSysctls {
		return nil, spec.Invalidf("%d sysctls are more than %d", len(want), maxSysctls)
	}
	out := map[string]string{}
	for key, value := range want {
		if !keyForm.MatchString(key) || len(key) > 128 {
			return nil, spec.Invalidf("sysctl %q: write the name with dots, such as net.core.somaxconn", key)
		}
		value = strings.ReplaceAll(value, "\t", " ")
		if !valueForm.MatchString(value) {
			return nil, spec.Invalidf("sysctl %s: the value %q has a character that no such value has", key, value)
		}
		private, known := namespaceOf(key, own)
		if !known {
			return nil, spec.Invalidf("sysctl %s is the node's, not a pod's: set it on the node", key)
		}
		if !private {
			return nil, spec.Invalidf("sysctl %s needs a namespace of the pod's own, and the pod asked for the node's", key)
		}
		out[key] = value
	}
	return out, nil
}

func namespaceOf(key string, own Own) (private, known bool) {
	switch {
	case strings.HasPrefix(key, "net."):
		return own.Net, true
	case strings.HasPrefix(key, "fs.mqueue."), strings.HasPrefix(key, "kernel.shm"), strings.HasPrefix(key, "kernel.msg"), key == "kernel.sem":
		return own.IPC, true
	}
	return false, false
}

// WithDefaults adds what every pod with a network of its own gets: unprivileged ping for all its groups, and low ports
// for all its users. maxGID is the highest group id that the pod has.
func WithDefaults(set map[string]string, own Own, maxGID uint32) map[string]string {
	out := maps.Clone(set)
	if out == nil {
		out = map[string]string{}
	}
	if !own.Net {
		return out
	}
	for k, v := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		// The kernel refuses a group that the namespace does not map, and 2³¹ and above.
		"net.ipv4.ping_group_range": "0 " + strconv.FormatUint(uint64(min(maxGID, 1<<31-1)), 10),
	} {
		if _, asked := out[k]; !asked {
			out[k] = v
		}
	}
	return out
}
