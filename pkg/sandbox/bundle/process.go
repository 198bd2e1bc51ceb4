package bundle

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultTerm = "TERM=xterm"
)

func procNS(pid int, kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }

func (in Input) process() (*specs.Process, error) {
	p := in.Container.Profile
	args, err := Args(in.Container.Request, in.Container.Image.Config)
	if err != nil {
		return nil, err
	}
	env, err := in.env()
	if err != nil {
		return nil, err
	}
	cwd, err := in.cwd()
	if err != nil {
		return nil, err
	}
	caps := p.Capabilities
	return &specs.Process{
		Terminal:        in.Container.Request.TTY,
		User:            specs.User{UID: p.User.UID, GID: p.User.GID, AdditionalGids: in.groups()},
		Args:            args,
		Env:             env,
		Cwd:             cwd,
		Capabilities:    &caps,
		Rlimits:         p.Rlimits,
		NoNewPrivileges: p.NoNewPrivileges,
		ApparmorProfile: p.AppArmor,
		SelinuxLabel:    p.SELinuxLabel,
		OOMScoreAdj:     p.OOMScoreAdj,
	}, nil
}

// Args is what runs: the request's command replaces the image's entrypoint and drops its cmd; the request's args replace
// the image's cmd (cri-api, ContainerConfig).
func Args(r spec.ContainerRequest, image spec.ImageConfig) ([]string, error) {
	entrypoint, cmd := r.Command, r.Args
	if len(entrypoint) == 0 {
		entrypoint = image.Entrypoint
		if len(cmd) == 0 {
			cmd = image.Cmd
		}
	}
	args := append(append([]string{}, entrypoint...), cmd...)
	if len(args) == 0 {
		return nil, spec.Invalidf("no command to run: the request has none, and neither has the image")
	}
	if args[0] == "" {
		return nil, spec.Invalidf("the command to run is empty")
	}
	for i, a := range args {
		if strings.IndexByte(a, 0) >= 0 {
			return nil, spec.Invalidf("argument %d holds a NUL byte", i)
		}
	}
	return args, nil
}

// env is, in rising order of precedence: what every program expects, the image's, the request's. A variable keeps the
// place of its first mention.
func (in Input) env() ([]string, error) {
	c := in.Container
	e := environment{at: map[string]int{}}
	e.set("PATH", defaultPath)
	if h := in.hostname(); h != "" {
		e.set("HOSTNAME", "HOSTNAME="+h)
	}
	if c.Request.TTY {
		e.set("TERM", defaultTerm)
	}
	for _, kv := range c.Image.Config.Env {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			continue // as in every other runtime: an image that says nothing sets nothing
		}
		if strings.IndexByte(kv, 0) >= 0 {
			return nil, spec.Invalidf("the image's environment variable %.64q holds a NUL byte", key)
		}
		e.set(key, kv)
	}
	for i, kv := range c.Request.Env {
		if kv.Key == "" || strings.ContainsAny(kv.Key, "=\x00") || strings.IndexByte(kv.Value, 0) >= 0 {
			return nil, spec.Invalidf("envs[%d]: %.64q is not a variable: its name may not be empty or hold '=', nothing may hold NUL", i, kv.Key)
		}
		e.set(kv.Key, kv.Key+"="+kv.Value)
	}
	for _, kv := range in.CDI.Env { // the device's own word on where it is
		key, _, _ := strings.Cut(kv, "=")
		if key == "" || strings.IndexByte(kv, 0) >= 0 {
			return nil, spec.Invalidf("CDI_devices: %.64q is not a variable", kv)
		}
		e.set(key, kv)
	}
	// Said here, so that libcontainer never parses the image's passwd for it.
	if i, ok := e.at["HOME"]; !ok || e.list[i] == "HOME=" {
		e.set("HOME", "HOME="+orElse(c.Profile.User.Home, "/"))
	}
	return e.list, nil
}

type environment struct {
	list []string
	at   map[string]int
}

func (e *environment) set(key, kv string) {
	if i, ok := e.at[key]; ok {
		e.list[i] = kv
		return
	}
	e.at[key] = len(e.list)
	e.list = append(e.list, kv)
}

func (in Input) hostname() string {
	switch {
	case !in.ownNetwork():
		return in.NodeHostname
	case in.Sandbox.Request.Hostname != "":
		return in.Sandbox.Request.Hostname
	default:
		return in.Sandbox.ID[:min(12, len(in.Sandbox.ID))]
	}
}

// cwd is absolute inside the container. Nothing under /proc: a working directory such as /proc/self/fd/7 would be a way
// to a directory of the host that a bug left open (CVE-2024-21626).
func (in Input) cwd() (string, error) {
	asked, whose := in.Container.Request.WorkingDir, "working_dir"
	if asked == "" {
		asked, whose = in.Container.Image.Config.WorkingDir, "the image's working directory"
	}
	dir := path.Clean("/" + asked)
	switch {
	case strings.IndexByte(dir, 0) >= 0 || len(dir) > maxPath:
		return "", spec.Invalidf("%s %.64q is not a path", whose, asked)
	case below(dir, "/proc"):
		return "", spec.Invalidf("%s %q is in /proc, where no program may start", whose, asked)
	}
	return dir, nil
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// maxPath is PATH_MAX without its NUL.
const maxPath = 4095

// below tells whether clean path p is dir or under it.
func below(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
