package translate

import v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

// StreamedExec translates Exec.
func StreamedExec(r *v1.ExecRequest) (id string, command []string, err error) {
	var c check
	id, command = c.id("container_id", r.GetContainerId()), c.words("cmd", r.GetCmd())
	if len(r.GetCmd()) == 0 || r.GetCmd()[0] == "" {
		c.fail("cmd", "is empty")
	}
	c.streams(r)
	return id, command, c.err
}

// StreamedAttach translates Attach.
func StreamedAttach(r *v1.AttachRequest) (id string, err error) {
	var c check
	id = c.id("container_id", r.GetContainerId())
	c.streams(r)
	return id, c.err
}

// streams checks what the CRI says of them: a terminal's output is one stream.
func (c *check) streams(r interface {
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
	GetTty() bool
}) {
	if !r.GetStdin() && !r.GetStdout() && !r.GetStderr() {
		c.fail("stdin", "is false, and so are stdout and stderr: ask for one of them")
	}
	if r.GetTty() && r.GetStderr() {
		c.fail("stderr", "is true, and so is tty: a terminal's output is one stream")
	}
}

// maxPorts is how many ports one request may name.
const maxPorts = 64

// PortForward translates PortForward. No ports are all.
func PortForward(r *v1.PortForwardRequest) (id string, ports []uint16, err error) {
	var c check
	id = c.id("pod_sandbox_id", r.GetPodSandboxId())
	if n := len(r.GetPort()); n > maxPorts {
		c.fail("port", "has %d entries: at most %d are possible", n, maxPorts)
		return id, nil, c.err
	}
	for _, p := range r.GetPort() {
		ports = append(ports, uint16(c.within("port", int64(p), 1, 65535)))
	}
	return id, ports, c.err
}
