package translate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// has fails the test unless the document under "info" holds each path with that value.
func has(t *testing.T, info map[string]string, want map[string]string) {
	t.Helper()
	var doc any
	if err := json.Unmarshal([]byte(info["info"]), &doc); err != nil {
		t.Fatalf("%v: %s", err, info["info"])
	}
	for path, value := range want {
		at := doc
		for _, key := range strings.Split(path, ".") {
			m, ok := at.(map[string]any)
			if !ok {
				t.Errorf("%s ends before %s", path, key)
				break
			}
			at = m[key]
		}
		if got, _ := json.Marshal(at); string(got) != value {
			t.Errorf("%s is %s, not %s", path, got, value)
		}
	}
}

func TestVerboseInfoOfAContainer(t *testing.T) {
	v := spec.ContainerView{State: spec.ContainerRunning, Spec: spec.Container{
		ID: "c", SandboxID: "s", Request: spec.ContainerRequest{Name: "n", LogPath: "n.log", Args: []string{"a"}},
		Image:   spec.ImageUse{ID: "sha256:1", Layers: []string{"sha256:a", "sha256:b"}},
		Profile: spec.Profile{Reasons: []spec.Reason{{Field: "security.privileged", Text: "asked for"}}},
	}}
	v.Facts.Started = &spec.Started{Init: spec.Process{PID: 42}}
	info, err := ContainerInfo(v, []byte(`{"ociVersion":"1.3.0","process":{"args":["a"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	has(t, info, map[string]string{
		"pid": "42", "sandboxID": `"s"`, "config.metadata.name": `"n"`, "config.log_path": `"n.log"`, "config.args": `["a"]`,
		"runtimeSpec.process.args": `["a"]`, "snapshotKey": `"sha256:b"`, "removing": "false",
		"profile.Reasons": `[{"Field":"security.privileged","Text":"asked for"}]`,
	})
	v.State = spec.ContainerExited
	if info, err = ContainerInfo(v, nil); err != nil {
		t.Fatal(err)
	}
	has(t, info, map[string]string{"pid": "0", "runtimeSpec": "null"})
}

func TestVerboseInfoOfASandbox(t *testing.T) {
	v := spec.SandboxView{State: spec.SandboxReady, Spec: spec.Sandbox{
		ID: "s", CgroupPath: "/p/s", Request: spec.SandboxRequest{Metadata: spec.Metadata{Name: "n"}, LogDirectory: "/logs"},
		Profile: spec.SandboxProfile{UserNamespace: true, UIDs: []spec.IDMapping{{HostID: 1000, Size: 10}}},
	}, Pins: map[string]string{"network": "/run/netns/s", "user": "/run/ns/user"}}
	v.Network.Addresses = []spec.Address{{IP: "10.0.0.2", Gateway: "10.0.0.1"}}
	info, err := SandboxInfo(v)
	if err != nil {
		t.Fatal(err)
	}
	has(t, info, map[string]string{
		"pid": "0", "config.metadata.name": `"n"`, "config.log_directory": `"/logs"`, "netNamespaceClosed": "false", "cgroupPath": `"/p/s"`,
		"runtimeSpec.linux.namespaces":  `[{"path":"/run/ns/user","type":"user"},{"path":"/run/netns/s","type":"network"}]`,
		"runtimeSpec.linux.uidMappings": `[{"containerID":0,"hostID":1000,"size":10}]`,
		"cniResult.Interfaces.eth0":     `{"IPConfigs":[{"Gateway":"10.0.0.1","IP":"10.0.0.2"}],"Sandbox":"/run/netns/s"}`,
	})
}

func TestVerboseInfoOfAnImage(t *testing.T) {
	info, err := ImageInfo(spec.Image{
		ID: "sha256:1", Layers: []string{"sha256:a", "sha256:b"}, DiffIDs: []string{"sha256:a", "sha256:d"}, CreatedAt: 1e9,
		Config: spec.ImageConfig{User: "1:2", Cmd: []string{"sh"}, Volumes: []string{"/v"}, Architecture: "amd64", OS: "linux"},
	})
	if err != nil {
		t.Fatal(err)
	}
	has(t, info, map[string]string{
		"chainID": `"sha256:b"`, "imageSpec.config.Cmd": `["sh"]`, "imageSpec.config.User": `"1:2"`, "imageSpec.config.Volumes": `{"/v":{}}`,
		"imageSpec.rootfs": `{"diff_ids":["sha256:a","sha256:d"],"type":"layers"}`, "imageSpec.created": `"1970-01-01T00:00:01Z"`,
		"imageSpec.architecture": `"amd64"`,
	})
}
