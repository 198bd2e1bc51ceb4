package serve

import (
	"log/slog"

	"github.com/runtimed/runtimed/pkg/sandbox/namespaces"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/probe"
)

// offered is what this node can beyond the ordinary, each by trying it: what Status says, and what the resolver lets pass.
func offered(pins *namespaces.Manager, l spec.Layout, node *security.Node, log *slog.Logger) (spec.Handler, spec.Features) {
	h := spec.Handler{RecursiveReadonlyMounts: node.MountAttr}
	if err := pins.ProbeIDMap(l.Layers()); err != nil {
		log.Warn("this node cannot idmap the layers of images: pods run without user namespaces of their own only", "error", err)
	} else {
		h.UserNamespaces = true
	}
	node.UserNamespacesHostNetwork = h.UserNamespaces && probe.HostSysfs()
	return h, spec.Features{MountOptions: node.MountAttr, UserNamespacesHostNetwork: node.UserNamespacesHostNetwork}
}
