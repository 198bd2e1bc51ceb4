// Package security decides what a pod and a container may do.
//
// It owns every "may it?" as a pure function of the request and the node (ResolveSandbox, ResolveContainer), and the
// tables they read from. It applies nothing: pkg/sandbox/bundle copies the answer into config.json, and the shim
// executes that blindly. What an image says (its user, its environment) is an attacker's word here.
package security
