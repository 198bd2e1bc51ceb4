package translate

import (
	"maps"
	"strings"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// SandboxID checks the id of a request about one sandbox; it may be a prefix.
func SandboxID(r interface{ GetPodSandboxId() string }) (string, error) {
	var c check
	return c.id("pod_sandbox_id", r.GetPodSandboxId()), c.err
}

// ContainerID checks the id of a request about one container; it may be a prefix.
func ContainerID(r interface{ GetContainerId() string }) (string, error) {
	var c check
	return c.id("container_id", r.GetContainerId()), c.err
}

// Stop translates StopContainer. A timeout of 0 kills at once.
func Stop(r *v1.StopContainerRequest) (id string, timeout time.Duration, err error) {
	var c check
	return c.id("container_id", r.GetContainerId()), c.seconds("timeout", r.GetTimeout()), c.err
}

// Exec translates ExecSync.
func Exec(r *v1.ExecSyncRequest) (spec.ExecRequest, error) {
	var c check
	out := spec.ExecRequest{
		ContainerID: c.id("container_id", r.GetContainerId()),
		Command:     c.words("cmd", r.GetCmd()),
		Timeout:     c.seconds("timeout", r.GetTimeout()),
	}
	if len(r.GetCmd()) == 0 || r.GetCmd()[0] == "" {
		c.fail("cmd", "is empty")
	}
	return out, c.err
}

// ExecResult translates a result into a message of at most max bytes: where both streams are so long that their message
// would be refused on its way, the longer one loses its end.
func ExecResult(r spec.ExecResult, max int) *v1.ExecSyncResponse {
	const framing = 64 // two keys with lengths, and the exit code: 28 at most
	room := max - framing
	out, err := r.Stdout, r.Stderr
	if len(out)+len(err) > room {
		fair := room / 2
		switch {
		case len(err) <= fair:
			out = out[:room-len(err)]
		case len(out) <= fair:
			err = err[:room-len(out)]
		default:
			out, err = out[:fair], err[:fair]
		}
	}
	return &v1.ExecSyncResponse{Stdout: out, Stderr: err, ExitCode: r.ExitCode}
}

func (c *check) seconds(field string, n int64) time.Duration {
	if n = c.within(field, n, 0, maxTimeout); c.err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// SandboxFilter translates a filter; nil selects all.
func SandboxFilter(f *v1.PodSandboxFilter) (spec.SandboxFilter, error) {
	var c check
	out := spec.SandboxFilter{
		ID:     c.text("filter.id", f.GetId(), maxName),
		Labels: maps.Clone(c.opaque("filter.label_selector", f.GetLabelSelector())),
	}
	if s := f.GetState(); s != nil {
		switch s.GetState() {
		case v1.PodSandboxState_SANDBOX_READY:
			out.State = spec.SandboxReady
		case v1.PodSandboxState_SANDBOX_NOTREADY:
			out.State = spec.SandboxNotReady
		default:
			c.fail("filter.state.state", "%d is not a state of the CRI", s.GetState())
		}
	}
	return out, c.err
}

// ContainerFilter translates a filter; nil selects all.
func ContainerFilter(f *v1.ContainerFilter) (spec.ContainerFilter, error) {
	var c check
	out := spec.ContainerFilter{
		ID:        c.text("filter.id", f.GetId(), maxName),
		SandboxID: c.text("filter.pod_sandbox_id", f.GetPodSandboxId(), maxName),
		Labels:    maps.Clone(c.opaque("filter.label_selector", f.GetLabelSelector())),
	}
	if s := f.GetState(); s != nil {
		for state, word := range containerStates {
			if word == s.GetState() {
				out.State = state
			}
		}
		if out.State == "" {
			c.fail("filter.state.state", "%d is not a state of the CRI", s.GetState())
		}
	}
	return out, c.err
}

// signal returns the name that a record holds, such as SIGTERM or SIGRTMIN+3; "" where the request leaves it open.
func (c *check) signal(field string, s v1.Signal) string {
	if s == v1.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	name, known := v1.Signal_name[int32(s)]
	if !known {
		c.fail(field, "%d is not a signal of the CRI", s)
		return ""
	}
	return strings.NewReplacer("SIGNAL_", "", "PLUS", "+", "MINUS", "-").Replace(name)
}

// signalBack is the inverse; a name that the CRI does not have is SIGNAL_RUNTIME_DEFAULT.
func signalBack(name string) v1.Signal {
	return v1.Signal(v1.Signal_value["SIGNAL_"+strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(name)])
}
