// Package device finds the host devices that a request makes visible, or all of them for a privileged container.
//
// It owns the form in which runtime-spec wants them: nodes to make, and rules for the device cgroup. It opens no device
// and makes no node. A Set is plain data; it is looked up again for every start, because device numbers change.
package device
