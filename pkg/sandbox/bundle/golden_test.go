package bundle

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestGolden holds whole answers: whoever changes one sees the change as a diff of config.json.
func TestGolden(t *testing.T) {
	major, minor := int64(10), int64(229)
	for name, in := range map[string]Input{
		"default": input(),
		"v2":      input(func(in *Input) { in.CgroupV2 = true; in.PidsLimit = 8192 }),
		"node":    input(hostPod, func(in *Input) { in.NodeHostname = "node-7" }),
		"host-ids": input(hostIDs, mountOf(spec.Mount{ContainerPath: "/data", HostPath: "/srv/nfs",
			Propagation: spec.PropagationPrivate})),
		"privileged": input(privileged, func(in *Input) {
			in.Sandbox.Profile.UserNamespace = false
			in.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}}
		}),
		"shared-pid": input(func(in *Input) {
			in.Sandbox.Request.Security.Namespaces.PID = spec.NamespacePod
			in.PodInit = &spec.Process{PID: 4242}
		}),
		"terminal": input(func(in *Input) {
			in.Container.Request.TTY, in.Container.Request.Stdin, in.Container.Request.StdinOnce = true, true, true
			in.Container.Request.Command, in.Container.Request.WorkingDir = []string{"sh"}, "/work"
		}),
		"user": input(func(in *Input) {
			in.Container.Profile.User = spec.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000}, Home: "/home/u"}
			in.Container.Profile.NoNewPrivileges, in.Container.Profile.ReadonlyRoot = true, true
			in.Container.Profile.AppArmor = "web"
		}),
		"mounts": input(
			mountOf(spec.Mount{ContainerPath: "/a/b/c", HostPath: "/h/deep", Readonly: true, Propagation: spec.PropagationHostToContainer}),
			mountOf(spec.Mount{ContainerPath: "/etc", HostPath: "/h/etc", Readonly: true, RecursiveReadonly: true, Propagation: spec.PropagationPrivate}),
			mountOf(spec.Mount{ContainerPath: "/etc/hosts", HostPath: "/h/hosts", Propagation: spec.PropagationPrivate}),
			mountOf(spec.Mount{ContainerPath: "rel", HostPath: "/h/link", Propagation: spec.PropagationPrivate,
				UIDs: []spec.IDMapping{{ContainerID: 0, HostID: 7, Size: 1}}, GIDs: []spec.IDMapping{{ContainerID: 0, HostID: 8, Size: 1}}}),
			func(in *Input) {
				in.Sources = map[string]string{"/h/link": "/h/real"}
				in.Container.Image.Config.Volumes = []string{"/var/data", "/a/b/c", "rel", "/cache"}
			}),
		"limits": input(func(in *Input) {
			in.Container.Request.Resources = &spec.Resources{
				CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, MemoryLimit: 64 << 20, CPUSetCPUs: "0-1", CPUSetMems: "0",
				HugepageLimits: []spec.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}, Unified: map[string]string{"pids.max": "100"},
			}
			in.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
			in.DeviceSources = map[string]string{"/dev/fuse": "/dev/fuse"}
			in.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rw"}}
		}),
		"limits-v2": input(func(in *Input) {
			in.CgroupV2 = true
			in.Container.Request.Resources = &spec.Resources{
				MemoryLimit: 64 << 20, MemorySwap: -1, Unified: map[string]string{"pids.max": "max", "memory.oom.group": "1"},
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			config, launch, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(struct {
				Config *specs.Spec
				Launch spec.Launch
			}{config, launch}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".json")
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; look at: go test ./pkg/sandbox/bundle -update && git diff", path)
			}
		})
	}
}
