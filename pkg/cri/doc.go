// Package cri is the door: the gRPC services of the Kubernetes Container Runtime Interface (k8s.io/cri-api, v1) on a
// unix socket.
//
// It owns the socket, who may connect to it, the meaning of each RPC's answers (what is missing is an error here and
// none there), the one mapping from an error's kind to a gRPC code, and the one log line of each call. Its handlers
// translate, call one method of Runtime or Images, and translate back; they never decide. It never touches a container,
// knows no other room than pkg/sandbox/spec and its own translate, and logs nothing of a message but ids.
//
// A Server is made by New, serves listeners made by Listen, and ends with Stop, which lets calls in flight finish.
// Other services, such as pkg/cri/control, are registered on it and get the same treatment.
package cri
