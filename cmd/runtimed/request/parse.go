package request

import (
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// portForm is shown with every port that cannot be read.
const portForm = "[IP:]HOST:CONTAINER[/tcp|/udp] is its form, with [IPv6] in brackets, such as 8080:80 or 127.0.0.1:5353:53/udp"

func ports(in []string) ([]*v1.PortMapping, error) {
	var out []*v1.PortMapping
	for _, s := range in {
		p, err := port(s)
		if err != nil {
			return nil, fmt.Errorf("-p %q: %w; %s", s, err, portForm)
		}
		out = append(out, p)
	}
	return out, nil
}

func port(s string) (*v1.PortMapping, error) {
	rest, protocol, named := strings.Cut(s, "/")
	out := &v1.PortMapping{}
	switch {
	case !named, protocol == "tcp":
		out.Protocol = v1.Protocol_TCP
	case protocol == "udp":
		out.Protocol = v1.Protocol_UDP
	default:
		return nil, fmt.Errorf("protocol %q is not possible", protocol)
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return nil, fmt.Errorf("a host port and a container port are needed")
	}
	host, container := rest[:i], rest[i+1:]
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		ip, err := address(host[:j])
		if err != nil {
			return nil, err
		}
		out.HostIp, host = ip, host[j+1:]
	}
	var err error
	if out.HostPort, err = number("host", host); err != nil {
		return nil, err
	}
	out.ContainerPort, err = number("container", container)
	return out, err
}

// address reads an IP address, an IPv6 one in brackets.
func address(s string) (string, error) {
	inner := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		inner = s[1 : len(s)-1]
	} else if strings.Contains(s, ":") {
		return "", fmt.Errorf("address %q stands without brackets", s)
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Zone() != "" {
		return "", fmt.Errorf("%q is not an IP address", s)
	}
	return a.String(), nil
}

func number(what, s string) (int32, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s port %q is not a number from 1 to 65535", what, s)
	}
	return int32(n), nil
}

func volumes(in []string, getwd func() (string, error)) ([]*v1.Mount, error) {
	var out []*v1.Mount
	for _, s := range in {
		m, err := volume(s, getwd)
		if err != nil {
			return nil, fmt.Errorf("-v %q: %w", s, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func volume(s string, getwd func() (string, error)) (*v1.Mount, error) {
	parts := strings.Split(s, ":")
	out := &v1.Mount{}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			out.Readonly = true
		case "rw":
		default:
			return nil, fmt.Errorf("option %q is not possible: ro and rw are", parts[2])
		}
		parts = parts[:2]
	}
	if len(parts) != 2 || parts[0] == "" {
		return nil, fmt.Errorf("SOURCE:TARGET[:ro] is its form, and a path with a colon is not possible")
	}
	if !filepath.IsAbs(parts[1]) {
		return nil, fmt.Errorf("target %q is not an absolute path", parts[1])
	}
	if !filepath.IsAbs(parts[0]) {
		if getwd == nil || !strings.HasPrefix(parts[0], ".") {
			return nil, fmt.Errorf("source %q is not a path: begin it with / or with ./; named volumes do not exist here", parts[0])
		}
		dir, err := getwd()
		if err != nil {
			return nil, err
		}
		parts[0] = filepath.Join(dir, parts[0])
	}
	out.HostPath, out.ContainerPath = filepath.Clean(parts[0]), parts[1]
	return out, nil
}

// environment reads K=V, and K alone for the value that it has here. A name that is not set here is left out.
func environment(in []string, lookup func(string) (string, bool)) ([]*v1.KeyValue, error) {
	var out []*v1.KeyValue
	at := map[string]int{}
	for _, s := range in {
		key, value, set := strings.Cut(s, "=")
		if key == "" || strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("-e %q: NAME=VALUE is its form, or NAME for the value that it has here", s)
		}
		if !set && lookup != nil {
			value, set = lookup(key)
		}
		if !set {
			continue
		}
		kv := &v1.KeyValue{Key: key, Value: []byte(value)}
		if i, again := at[key]; again {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out, nil
}

// period is the kernel's default period of a CPU quota, in µs.
const period = 100_000

// Limits are those that the options name; nil is none.
func Limits(o Options) (*v1.LinuxContainerResources, error) { return resources(o) }

func resources(o Options) (*v1.LinuxContainerResources, error) {
	out := &v1.LinuxContainerResources{}
	if o.Memory != "" {
		n, err := units.RAMInBytes(o.Memory)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("--memory %q: a number of bytes, or one with b, k, m or g, such as 64m, is possible", o.Memory)
		}
		out.MemoryLimitInBytes = n
	}
	if o.CPUs != "" {
		n, err := strconv.ParseFloat(o.CPUs, 64)
		if err != nil || math.IsNaN(n) || n < 0.01 || n > 65536 {
			return nil, fmt.Errorf("--cpus %q: a number of processors from 0.01 up, such as 1.5, is possible", o.CPUs)
		}
		out.CpuPeriod, out.CpuQuota = period, int64(math.Round(n*period))
	}
	if o.PidsLimit < 0 {
		return nil, fmt.Errorf("--pids-limit %d: at least 1 is possible", o.PidsLimit)
	}
	if o.PidsLimit > 0 {
		out.Unified = map[string]string{"pids.max": strconv.FormatInt(o.PidsLimit, 10)}
	}
	if out.MemoryLimitInBytes == 0 && out.CpuQuota == 0 && out.Unified == nil {
		return nil, nil
	}
	return out, nil
}

// user reads UID[:GID] or NAME[:GID].
func user(s string, out *v1.LinuxContainerSecurityContext) error {
	if s == "" {
		return nil
	}
	name, group, withGroup := strings.Cut(s, ":")
	fail := fmt.Errorf("--user %q: UID, NAME, UID:GID and NAME:GID are possible, with ids from 0 to %d", s, math.MaxInt32)
	if name == "" {
		return fail
	}
	if isNumber(name) {
		n, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return fail
		}
		out.RunAsUser = &v1.Int64Value{Value: n}
	} else {
		out.RunAsUsername = name
	}
	if withGroup {
		n, err := strconv.ParseUint(group, 10, 31)
		if err != nil {
			return fail
		}
		out.RunAsGroup = &v1.Int64Value{Value: int64(n)}
	}
	return nil
}

func isNumber(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}
