// Package kubelet runs the real kubelet, standalone with static pods, against a whole daemon: `make kubelet-test`.
//
// Its tests have the build tag kubelet, because building a kubelet takes minutes. They own the node around it (a mount
// namespace in which the kubelet's fixed paths and the kernel's settings that it writes are private) and the list of what
// a node's user sees of a runtime. The last result is in docs/kubelet.md.
package kubelet
