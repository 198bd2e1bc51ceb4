package translate

import (
	"encoding/json"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// The documents of verbose answers have the shape that users of crictl know from containerd: one JSON object under the
// key "info" (.info.pid, .info.runtimeSpec, .info.config, …), with what this runtime knows beyond it beside.

// sandboxInfo is the verbose info of a sandbox.
type sandboxInfo struct {
	PID                int         `json:"pid"` // of the pod's own init; 0 where it has none: there is no pause process
	ProcessStatus      string      `json:"processStatus"`
	NetNamespaceClosed bool        `json:"netNamespaceClosed"`
	RuntimeHandler     string      `json:"runtimeHandler"`
	RuntimeType        string      `json:"runtimeType"`
	Config             any         `json:"config"` // the CRI's PodSandboxConfig
	RuntimeSpec        podSpec     `json:"runtimeSpec"`
	CNIResult          networkInfo `json:"cniResult"`
	Profile            any         `json:"profile"` // what was decided, and the reasons
	Network            any         `json:"network"`
	CgroupPath         string      `json:"cgroupPath"`
	Status             any         `json:"status"`
}

// podSpec is the part of an OCI runtime spec that a pod without a process of its own has.
type podSpec struct {
	Hostname string `json:"hostname,omitempty"`
	Linux    struct {
		Namespaces  []namespaceInfo   `json:"namespaces"`
		UIDMappings []mappingInfo     `json:"uidMappings,omitempty"`
		GIDMappings []mappingInfo     `json:"gidMappings,omitempty"`
		CgroupsPath string            `json:"cgroupsPath"`
		Sysctl      map[string]string `json:"sysctl,omitempty"`
	} `json:"linux"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type namespaceInfo struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

type mappingInfo struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Size        uint32 `json:"size"`
}

// networkInfo has the shape of go-cni's result: what is known of the pod's interface.
type networkInfo struct {
	Interfaces map[string]interfaceInfo `json:"Interfaces"`
}

type interfaceInfo struct {
	IPConfigs []ipInfo `json:"IPConfigs"`
	Sandbox   string   `json:"Sandbox"`
}

type ipInfo struct {
	IP      string `json:"IP"`
	Gateway string `json:"Gateway"`
}

// SandboxInfo is the verbose info of a sandbox.
func SandboxInfo(v spec.SandboxView) (map[string]string, error) {
	out := sandboxInfo{
		ProcessStatus: string(v.State), NetNamespaceClosed: v.State != spec.SandboxReady,
		RuntimeHandler: v.Spec.Request.Handler, RuntimeType: "runtimed", Config: SandboxConfig(v.Spec.Request),
		RuntimeSpec: sandboxSpec(v), CNIResult: networkInfo{Interfaces: map[string]interfaceInfo{}},
		Profile: v.Spec.Profile, Network: v.Network, CgroupPath: v.Spec.CgroupPath, Status: v.Status,
	}
	if v.Status.Init != nil {
		out.PID = v.Status.Init.PID
	}
	if len(v.Network.Addresses) > 0 {
		eth := interfaceInfo{Sandbox: v.Pins["network"]}
		for _, a := range v.Network.Addresses {
			eth.IPConfigs = append(eth.IPConfigs, ipInfo{IP: a.IP, Gateway: a.Gateway})
		}
		out.CNIResult.Interfaces["eth0"] = eth
	}
	return info(out)
}

func sandboxSpec(v spec.SandboxView) podSpec {
	s := podSpec{Hostname: v.Spec.Request.Hostname, Annotations: v.Spec.Request.Annotations}
	s.Linux.Namespaces = []namespaceInfo{}
	for _, kind := range []string{"user", "network", "ipc", "uts", "pid"} {
		if path := v.Pins[kind]; path != "" {
			s.Linux.Namespaces = append(s.Linux.Namespaces, namespaceInfo{kind, path})
		}
	}
	s.Linux.UIDMappings, s.Linux.GIDMappings = mappingInfos(v.Spec.Profile.UIDs), mappingInfos(v.Spec.Profile.GIDs)
	s.Linux.CgroupsPath, s.Linux.Sysctl = v.Spec.CgroupPath, v.Spec.Profile.Sysctls
	return s
}

func mappingInfos(in []spec.IDMapping) []mappingInfo {
	var out []mappingInfo
	for _, m := range in {
		out = append(out, mappingInfo{m.ContainerID, m.HostID, m.Size})
	}
	return out
}

// containerInfo is the verbose info of a container.
type containerInfo struct {
	SandboxID   string          `json:"sandboxID"`
	PID         int             `json:"pid"` // of its first process, while it runs
	Removing    bool            `json:"removing"`
	SnapshotKey string          `json:"snapshotKey"` // the chain id of the image's highest layer
	Snapshotter string          `json:"snapshotter"`
	RuntimeType string          `json:"runtimeType"`
	Config      any             `json:"config"`      // the CRI's ContainerConfig
	RuntimeSpec json.RawMessage `json:"runtimeSpec"` // config.json; null before it was started
	Image       any             `json:"image"`
	Profile     any             `json:"profile"` // what was decided, and the reasons
	CgroupPath  string          `json:"cgroupPath"`
	Facts       any             `json:"facts"`
}

// ContainerInfo is the verbose info of a container. runtimeSpec is its config.json, or nil before it was started.
func ContainerInfo(v spec.ContainerView, runtimeSpec json.RawMessage) (map[string]string, error) {
	out := containerInfo{
		SandboxID: v.Spec.SandboxID, SnapshotKey: last(v.Spec.Image.Layers), Snapshotter: "overlayfs", RuntimeType: "runtimed",
		Config: ContainerConfig(v.Spec.Request), RuntimeSpec: runtimeSpec, Image: v.Spec.Image, Profile: v.Spec.Profile,
		CgroupPath: v.Spec.CgroupPath, Facts: v.Facts,
	}
	if len(runtimeSpec) == 0 {
		out.RuntimeSpec = json.RawMessage("null")
	}
	if v.State == spec.ContainerRunning && v.Facts.Started != nil {
		out.PID = v.Facts.Started.Init.PID
	}
	return info(out)
}

func last(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[len(s)-1]
}

// imageInfo is the verbose info of an image.
type imageInfo struct {
	ChainID   string    `json:"chainID"`
	ImageSpec imageSpec `json:"imageSpec"`
	Layers    []string  `json:"layers"` // chain ids, lowest first
}

// imageSpec is an image's configuration in the words of the OCI image spec.
type imageSpec struct {
	Created      string `json:"created,omitempty"`
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		User       string              `json:"User,omitempty"`
		Env        []string            `json:"Env,omitempty"`
		Entrypoint []string            `json:"Entrypoint,omitempty"`
		Cmd        []string            `json:"Cmd,omitempty"`
		Volumes    map[string]struct{} `json:"Volumes,omitempty"`
		WorkingDir string              `json:"WorkingDir,omitempty"`
		Labels     map[string]string   `json:"Labels,omitempty"`
		StopSignal string              `json:"StopSignal,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// ImageInfo is the verbose info of an image.
func ImageInfo(i spec.Image) (map[string]string, error) {
	c := i.Config
	out := imageInfo{ChainID: last(i.Layers), Layers: i.Layers}
	s := &out.ImageSpec
	s.Architecture, s.OS = c.Architecture, c.OS
	if i.CreatedAt != 0 {
		s.Created = time.Unix(0, i.CreatedAt).UTC().Format(time.RFC3339Nano)
	}
	s.Config.User, s.Config.Env, s.Config.Entrypoint, s.Config.Cmd = c.User, c.Env, c.Entrypoint, c.Cmd
	s.Config.WorkingDir, s.Config.Labels, s.Config.StopSignal = c.WorkingDir, c.Labels, c.StopSignal
	for _, v := range c.Volumes {
		if s.Config.Volumes == nil {
			s.Config.Volumes = map[string]struct{}{}
		}
		s.Config.Volumes[v] = struct{}{}
	}
	s.RootFS.Type, s.RootFS.DiffIDs = "layers", i.DiffIDs
	return info(out)
}

func info(v any) (map[string]string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return map[string]string{"info": string(b)}, nil
}
