package cri

import v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

// nameOf is how a person names what a request is about, where it has no id yet.
func nameOf(req any) string {
	switch r := req.(type) {
	case *v1.RunPodSandboxRequest:
		m := r.GetConfig().GetMetadata()
		return m.GetNamespace() + "/" + m.GetName()
	case *v1.CreateContainerRequest:
		return r.GetConfig().GetMetadata().GetName()
	case *v1.PullImageRequest:
		return r.GetImage().GetImage()
	case *v1.RemoveImageRequest:
		return r.GetImage().GetImage()
	}
	return ""
}
