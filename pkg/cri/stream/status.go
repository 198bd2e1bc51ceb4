package stream

import (
	"encoding/json"
	"strconv"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// outcome is how a session ended.
type outcome struct {
	code int32
	err  error
}

// remoteStatus is the end of a session as clients read it: the part of metav1.Status that remote commands have
// (k8s.io/cri-streaming, remotecommand/status.go, which exports none of it).
type remoteStatus struct {
	Status  string         `json:"status,omitempty"`
	Message string         `json:"message,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Details *statusDetails `json:"details,omitempty"`
	Code    int32          `json:"code,omitempty"`
}

type statusDetails struct {
	Causes []statusCause `json:"causes,omitempty"`
}

type statusCause struct {
	Type    string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// status is the outcome in the client's words.
func (o outcome) status() []byte {
	s := remoteStatus{Status: "Success"}
	switch {
	case o.err != nil:
		s = remoteStatus{Status: "Failure", Reason: "InternalError", Message: o.err.Error(), Code: 500}
	case o.code != 0:
		code := strconv.Itoa(int(o.code))
		s = remoteStatus{
			Status: "Failure", Reason: remotecommand.NonZeroExitCodeReason, Message: "the command ended with exit code " + code,
			Details: &statusDetails{Causes: []statusCause{{Type: remotecommand.ExitCodeCauseType, Message: code}}},
		}
	}
	b, _ := json.Marshal(s) // plain strings always marshal
	return b
}
