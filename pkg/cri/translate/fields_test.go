package translate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// good are requests with enough in them that any one field more is about that field alone.
func goodSandbox() *v1.RunPodSandboxRequest {
	return &v1.RunPodSandboxRequest{Config: &v1.PodSandboxConfig{
		Metadata: &v1.PodSandboxMetadata{Name: "n", Uid: "u", Namespace: "ns"},
	}}
}

func goodContainer() *v1.CreateContainerRequest {
	return &v1.CreateContainerRequest{PodSandboxId: "s", Config: &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "n"}, Image: &v1.ImageSpec{Image: "i"},
	}}
}

type translator struct {
	good func() proto.Message
	to   func(proto.Message) (any, error)
}

func nothing(proto.Message) (any, error) { return nil, nil }

func ofSandbox(good func() proto.Message) translator {
	return translator{good, func(m proto.Message) (any, error) { return SandboxID(m.(interface{ GetPodSandboxId() string })) }}
}

func ofContainer(good func() proto.Message) translator {
	return translator{good, func(m proto.Message) (any, error) { return ContainerID(m.(interface{ GetContainerId() string })) }}
}

// translators are the requests and what they become.
var translators = map[string]translator{
	"RunPodSandbox": {
		func() proto.Message { return goodSandbox() },
		func(m proto.Message) (any, error) { return Sandbox(m.(*v1.RunPodSandboxRequest)) },
	},
	"CreateContainer": {
		func() proto.Message { return goodContainer() },
		func(m proto.Message) (any, error) {
			id, r, err := Container(m.(*v1.CreateContainerRequest))
			return []any{id, r}, err
		},
	},
	"PullImage": {
		func() proto.Message { return &v1.PullImageRequest{Image: &v1.ImageSpec{Image: "i"}} },
		func(m proto.Message) (any, error) {
			r, err := Pull(m.(*v1.PullImageRequest))
			// Only here are the secrets looked at: Auth never prints them.
			return []any{r, r.Auth.Username, r.Auth.Password, r.Auth.Auth, r.Auth.IdentityToken, r.Auth.RegistryToken}, err
		},
	},
	"StopContainer": {
		func() proto.Message { return &v1.StopContainerRequest{ContainerId: "c"} },
		func(m proto.Message) (any, error) {
			id, timeout, err := Stop(m.(*v1.StopContainerRequest))
			return []any{id, timeout}, err
		},
	},
	"ExecSync": {
		func() proto.Message { return &v1.ExecSyncRequest{ContainerId: "c", Cmd: []string{"x"}} },
		func(m proto.Message) (any, error) { return Exec(m.(*v1.ExecSyncRequest)) },
	},
	"UpdateContainerResources": {
		func() proto.Message { return &v1.UpdateContainerResourcesRequest{ContainerId: "c"} },
		func(m proto.Message) (any, error) {
			id, asked, err := Update(m.(*v1.UpdateContainerResourcesRequest))
			return []any{id, asked}, err
		},
	},
	"UpdatePodSandboxResources": {
		func() proto.Message { return &v1.UpdatePodSandboxResourcesRequest{PodSandboxId: "s"} },
		func(m proto.Message) (any, error) {
			id, overhead, resources, err := UpdateSandbox(m.(*v1.UpdatePodSandboxResourcesRequest))
			return []any{id, overhead, resources}, err
		},
	},
	"ListPodSandbox": {
		func() proto.Message { return &v1.ListPodSandboxRequest{} },
		func(m proto.Message) (any, error) { return SandboxFilter(m.(*v1.ListPodSandboxRequest).GetFilter()) },
	},
	"ListContainers": {
		func() proto.Message { return &v1.ListContainersRequest{} },
		func(m proto.Message) (any, error) { return ContainerFilter(m.(*v1.ListContainersRequest).GetFilter()) },
	},
	"ListImages": {
		func() proto.Message { return &v1.ListImagesRequest{} },
		func(m proto.Message) (any, error) { return ImageFilter(m.(*v1.ListImagesRequest).GetFilter()) },
	},
	"Version":            {func() proto.Message { return &v1.VersionRequest{} }, nothing},
	"Status":             {func() proto.Message { return &v1.StatusRequest{} }, nothing},
	"StopPodSandbox":     ofSandbox(func() proto.Message { return &v1.StopPodSandboxRequest{PodSandboxId: "s"} }),
	"RemovePodSandbox":   ofSandbox(func() proto.Message { return &v1.RemovePodSandboxRequest{PodSandboxId: "s"} }),
	"PodSandboxStatus":   ofSandbox(func() proto.Message { return &v1.PodSandboxStatusRequest{PodSandboxId: "s"} }),
	"PodSandboxStats":    ofSandbox(func() proto.Message { return &v1.PodSandboxStatsRequest{PodSandboxId: "s"} }),
	"StartContainer":     ofContainer(func() proto.Message { return &v1.StartContainerRequest{ContainerId: "c"} }),
	"RemoveContainer":    ofContainer(func() proto.Message { return &v1.RemoveContainerRequest{ContainerId: "c"} }),
	"ContainerStatus":    ofContainer(func() proto.Message { return &v1.ContainerStatusRequest{ContainerId: "c"} }),
	"ContainerStats":     ofContainer(func() proto.Message { return &v1.ContainerStatsRequest{ContainerId: "c"} }),
	"ReopenContainerLog": ofContainer(func() proto.Message { return &v1.ReopenContainerLogRequest{ContainerId: "c"} }),
	"StreamPodSandboxes": {
		func() proto.Message { return &v1.StreamPodSandboxesRequest{} },
		func(m proto.Message) (any, error) {
			return SandboxFilter(m.(*v1.StreamPodSandboxesRequest).GetFilter())
		},
	},
	"StreamContainers": {
		func() proto.Message { return &v1.StreamContainersRequest{} },
		func(m proto.Message) (any, error) {
			return ContainerFilter(m.(*v1.StreamContainersRequest).GetFilter())
		},
	},
	"StreamImages": {
		func() proto.Message { return &v1.StreamImagesRequest{} },
		func(m proto.Message) (any, error) { return ImageFilter(m.(*v1.StreamImagesRequest).GetFilter()) },
	},
	"ListContainerStats": {
		func() proto.Message { return &v1.ListContainerStatsRequest{} },
		func(m proto.Message) (any, error) {
			return ContainerStatsFilter(m.(*v1.ListContainerStatsRequest).GetFilter())
		},
	},
	"StreamContainerStats": {
		func() proto.Message { return &v1.StreamContainerStatsRequest{} },
		func(m proto.Message) (any, error) {
			return ContainerStatsFilter(m.(*v1.StreamContainerStatsRequest).GetFilter())
		},
	},
	"ListPodSandboxStats": {
		func() proto.Message { return &v1.ListPodSandboxStatsRequest{} },
		func(m proto.Message) (any, error) {
			return SandboxStatsFilter(m.(*v1.ListPodSandboxStatsRequest).GetFilter())
		},
	},
	"StreamPodSandboxStats": {
		func() proto.Message { return &v1.StreamPodSandboxStatsRequest{} },
		func(m proto.Message) (any, error) {
			return SandboxStatsFilter(m.(*v1.StreamPodSandboxStatsRequest).GetFilter())
		},
	},
	"UpdateRuntimeConfig": {
		func() proto.Message { return &v1.UpdateRuntimeConfigRequest{} },
		func(m proto.Message) (any, error) { return PodCIDRs(m.(*v1.UpdateRuntimeConfigRequest)) },
	},
	"Exec": {
		func() proto.Message { return &v1.ExecRequest{ContainerId: "c", Cmd: []string{"x"}, Stdout: true} },
		func(m proto.Message) (any, error) {
			id, command, err := StreamedExec(m.(*v1.ExecRequest))
			return []any{id, command}, err
		},
	},
	"Attach": {
		func() proto.Message { return &v1.AttachRequest{ContainerId: "c", Stdout: true} },
		func(m proto.Message) (any, error) { return StreamedAttach(m.(*v1.AttachRequest)) },
	},
	"PortForward": {
		func() proto.Message { return &v1.PortForwardRequest{PodSandboxId: "s"} },
		func(m proto.Message) (any, error) {
			id, ports, err := PortForward(m.(*v1.PortForwardRequest))
			return []any{id, ports}, err
		},
	},
	"RemoveImage": {
		func() proto.Message { return &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: "i"}} },
		func(m proto.Message) (any, error) { return ImageRef(m.(*v1.RemoveImageRequest).GetImage()) },
	},
	"ImageStatus": {
		func() proto.Message { return &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: "i"}} },
		func(m proto.Message) (any, error) { return ImageRef(m.(*v1.ImageStatusRequest).GetImage()) },
	},
}

// elsewhere are the fields that a handler of pkg/cri reads, not a translator; its tests show that they count.
var elsewhere = map[string]bool{
	"ImageSpec.runtime_handler": true,
	"StatusRequest.verbose":     true, "PodSandboxStatusRequest.verbose": true, "ContainerStatusRequest.verbose": true, "ImageStatusRequest.verbose": true,
	"ExecRequest.tty": true, "ExecRequest.stdin": true, "ExecRequest.stdout": true, "ExecRequest.stderr": true,
	"AttachRequest.tty": true, "AttachRequest.stdin": true, "AttachRequest.stdout": true, "AttachRequest.stderr": true,
}

// TestEveryFieldCounts sets every field of every request, one at a time: it must change what comes out, or be in Ignored.
// Where a request refuses it by its name, another request must take it. A field that a later cri-api adds fails here until
// somebody has decided.
func TestEveryFieldCounts(t *testing.T) {
	used, honoured, refused := map[string]bool{}, map[string]bool{}, map[string]error{}
	for name, tr := range translators {
		t.Run(name, func(t *testing.T) {
			n := 0
			eachField(tr.good(), func(path string, full string, set func(proto.Message, bool)) {
				n++
				if Ignored[parentTable(path, full)] != "" {
					used[parentTable(path, full)] = true
					return
				}
				if elsewhere[full] {
					return
				}
				// What the field lies in and needs beside it is there before and after, so that it alone makes the difference.
				before, after := tr.good(), tr.good()
				needs(path, before)
				needs(path, after)
				set(before, false)
				set(after, true)
				was, err := tr.to(before)
				if err != nil && strings.HasSuffix(path, " "+full) && !names(err, path) {
					t.Fatalf("%s: the request without it is refused: %v", path, err)
				}
				got, err := tr.to(after)
				switch {
				case err != nil && !names(err, path):
					t.Errorf("%s is refused with %v, which does not name it", path, err)
				case err != nil:
					refused[full] = err
				case reflect.DeepEqual(was, got):
					t.Errorf("%s (%s) changes nothing and is not in Ignored", path, full)
				default:
					honoured[full] = true
				}
			})
			t.Logf("%d fields", n)
		})
	}
	for full, err := range refused {
		if !honoured[full] {
			t.Errorf("%s is only ever refused: %v", full, err)
		}
	}
	for key, why := range Ignored {
		if !used[key] && !elsewhere[key] {
			t.Errorf("Ignored has %s, which no request has", key)
		}
		if why == "" {
			t.Errorf("Ignored has no reason for %s", key)
		}
	}
}

// TestEveryRequestIsTranslated: none is left out of the test of fields.
func TestEveryRequestIsTranslated(t *testing.T) {
	unserved := map[string]bool{"CheckpointContainer": true, "CheckpointPod": true, "RestorePod": true}
	file := v1.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto
	for i := range file.Services().Len() {
		for j := range file.Services().Get(i).Methods().Len() {
			m := file.Services().Get(i).Methods().Get(j)
			tr, ok := translators[string(m.Name())]
			if ok == unserved[string(m.Name())] && m.Input().Fields().Len() > 0 {
				t.Errorf("%s: is its request translated? %v", m.Name(), ok)
			}
			if ok && tr.good().ProtoReflect().Descriptor() != m.Input() {
				t.Errorf("%s: %s is translated", m.Name(), tr.good().ProtoReflect().Descriptor().Name())
			}
		}
	}
}

// parentTable is the key in Ignored that covers the field: its own, or that of a message that it lies in.
func parentTable(path, full string) string {
	for _, p := range strings.Split(path, " ") {
		if _, ok := Ignored[p]; ok {
			// The namespace of a pull's sandbox_config is the exception that its entry names.
			if p == "PullImageRequest.sandbox_config" && full == "PodSandboxMetadata.namespace" {
				return ""
			}
			return p
		}
	}
	return full
}

// names tells whether an error names the field, or the one that it lies in.
func names(err error, path string) bool {
	parts := strings.Split(path, " ")
	for _, p := range parts[max(0, len(parts)-2):] {
		_, field, _ := strings.Cut(p, ".")
		if strings.Contains(err.Error(), "."+strings.TrimSuffix(field, "_profile_path")) {
			return true
		}
	}
	return false
}

// needs adds to a request what the field cannot be without.
func needs(path string, m proto.Message) {
	if !strings.Contains(path, ".run_as_group ") {
		return
	}
	user := &v1.Int64Value{Value: 1}
	switch r := m.(type) {
	case *v1.CreateContainerRequest:
		r.Config.Linux = &v1.LinuxContainerConfig{SecurityContext: &v1.LinuxContainerSecurityContext{RunAsUser: user}}
	case *v1.RunPodSandboxRequest:
		r.Config.Linux = &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{RunAsUser: user}}
	}
}

// beside changes the message that the field lies in, so that the field can be there.
func beside(full string, m proto.Message) {
	switch v := m.(type) {
	case *v1.NamespaceOption:
		if full == "NamespaceOption.target_id" {
			v.Pid, v.TargetId = v1.NamespaceMode_TARGET, "x"
		}
	case *v1.UserNamespace:
		if full == "UserNamespace.mode" {
			v.Uids, v.Gids = nil, nil
		}
	case *v1.SecurityProfile:
		if full == "SecurityProfile.localhost_ref" {
			v.ProfileType, v.LocalhostRef = v1.SecurityProfile_Localhost, "/before"
		}
	case *v1.Mount:
		switch full {
		case "Mount.recursive_read_only":
			v.Readonly = true
		case "Mount.image_sub_path":
			v.Image, v.HostPath, v.UidMappings, v.GidMappings = &v1.ImageSpec{Image: "i"}, "", nil, nil
		}
	}
}

// eachField calls f for every field below m: path holds "Message.field" of each level, full that of the last.
func eachField(m proto.Message, f func(path, full string, set func(proto.Message, bool))) {
	walkFields(m.ProtoReflect().Descriptor(), "", nil, 0, f)
}

func walkFields(d protoreflect.MessageDescriptor, path string, hops []protoreflect.FieldDescriptor, depth int, f func(string, string, func(proto.Message, bool))) {
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		full := fmt.Sprintf("%s.%s", d.Name(), fd.Name())
		p := strings.TrimSpace(path + " " + full)
		way := append(slices.Clone(hops), fd)
		_, off := Ignored[full]
		if fd.Message() == nil || fd.IsMap() || off { // a message is what is in it
			f(p, full, func(m proto.Message, leaf bool) { setField(m.ProtoReflect(), way, leaf) })
		}
		if fd.Message() != nil && !fd.IsMap() && depth < 6 {
			walkFields(fd.Message(), p, way, depth+1, f)
		}
	}
}

// setField walks down to the field, making what is missing, and gives it a value that it did not have; without leaf it
// stops before it.
func setField(m protoreflect.Message, way []protoreflect.FieldDescriptor, leaf bool) {
	for _, f := range way[:len(way)-1] {
		if mount, ok := m.Interface().(*v1.Mount); ok && f.Name() == "image" {
			mount.HostPath, mount.UidMappings, mount.GidMappings = "", nil, nil
		}
		if f.IsList() {
			l := m.Mutable(f).List()
			if l.Len() == 0 {
				l.AppendMutable()
				fill(l.Get(0).Message())
			}
			m = l.Get(0).Message()
			continue
		}
		isNew := !m.Has(f)
		if m = m.Mutable(f).Message(); isNew {
			fill(m)
		}
	}
	f := way[len(way)-1]
	beside(fmt.Sprintf("%s.%s", f.ContainingMessage().Name(), f.Name()), m.Interface())
	if !leaf {
		return
	}
	switch {
	case f.IsMap():
		m.Mutable(f).Map().Set(protoreflect.ValueOfString("a.b").MapKey(), protoreflect.ValueOfString("x"))
	case f.IsList() && f.Message() != nil:
		fill(m.Mutable(f).List().AppendMutable().Message())
	case f.IsList():
		m.Mutable(f).List().Append(scalar(f, m))
	case f.Message() != nil:
		fill(m.Mutable(f).Message())
	default:
		m.Set(f, scalar(f, m))
	}
}

// fill makes a new message one that would be accepted.
func fill(m protoreflect.Message) {
	switch v := m.Interface().(type) {
	case *v1.ImageSpec:
		v.Image = "i"
	case *v1.CDIDevice:
		v.Name = "vendor.example/class=one"
	case *v1.Mount:
		v.ContainerPath, v.HostPath = "/c", "/h"
		v.UidMappings, v.GidMappings = []*v1.IDMapping{{Length: 1}}, []*v1.IDMapping{{Length: 1}}
	case *v1.Device:
		v.ContainerPath, v.HostPath, v.Permissions = "/c", "/h", "r"
	case *v1.KeyValue:
		v.Key = "K"
	case *v1.IDMapping:
		v.Length = 1
	case *v1.HugepageLimit:
		v.PageSize = "2MB"
	case *v1.PortMapping:
		v.ContainerPort = 1
	case *v1.Int64Value:
		v.Value = 7
	case *v1.UserNamespace:
		v.Uids, v.Gids = []*v1.IDMapping{{Length: 1}}, []*v1.IDMapping{{Length: 1}}
	case *v1.PodSandboxStateValue:
		v.State = v1.PodSandboxState_SANDBOX_NOTREADY
	case *v1.ContainerStateValue:
		v.State = v1.ContainerState_CONTAINER_EXITED
	case *v1.SecurityProfile:
		v.ProfileType = v1.SecurityProfile_Unconfined
	}
}

// scalar is a value for the field that differs from what it holds.
func scalar(f protoreflect.FieldDescriptor, m protoreflect.Message) protoreflect.Value {
	if n, ok := numbers[fmt.Sprintf("%s.%s", f.ContainingMessage().Name(), f.Name())]; ok {
		if f.Kind() == protoreflect.EnumKind {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
		}
		return protoreflect.ValueOfInt64(n)
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		if s, ok := texts[fmt.Sprintf("%s.%s", f.ContainingMessage().Name(), f.Name())]; ok {
			return protoreflect.ValueOfString(s)
		}
		return protoreflect.ValueOfString("other")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("other"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(2)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(5)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(2000)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(5)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(5)
	}
	panic(f.Kind())
}

// numbers are good values of the fields that do not take any, and have none of them before.
var numbers = map[string]int64{
	"LinuxContainerResources.oom_score_adj": 900, "PodSandboxStateValue.state": 0, "ContainerStateValue.state": 1, "SecurityProfile.profile_type": 0,
	"LinuxSandboxSecurityContext.supplemental_groups_policy": 1, "LinuxContainerSecurityContext.supplemental_groups_policy": 1,
}

// texts are good values of the fields that do not take any word.
var texts = map[string]string{
	"SecurityProfile.localhost_ref": "/other", "Mount.mount_options": "noexec", "CDIDevice.name": "vendor.example/class=other",
	"NetworkConfig.pod_cidr":         "10.5.0.0/16",
	"PodSandboxConfig.log_directory": "/logs", "DNSConfig.servers": "1.2.3.4", "PortMapping.host_ip": "1.2.3.4",
	"Mount.container_path": "/other", "Mount.host_path": "/other", "Device.container_path": "/other", "Device.host_path": "/other",
	"Device.permissions": "rw", "ContainerConfig.working_dir": "/other", "HugepageLimit.page_size": "1GB",
	"LinuxContainerResources.cpuset_cpus": "1", "LinuxContainerResources.cpuset_mems": "1",
	"LinuxContainerSecurityContext.masked_paths": "/other", "LinuxContainerSecurityContext.readonly_paths": "/other",
	"LinuxContainerSecurityContext.seccomp_profile_path": "unconfined", "LinuxSandboxSecurityContext.seccomp_profile_path": "unconfined",
	"LinuxContainerSecurityContext.apparmor_profile": "unconfined",
}
