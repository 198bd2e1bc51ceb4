package bundle

import (
	"fmt"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Process is config.json's process in libcontainer's form, without its standard streams. Every caller gets its own:
// an exec session replaces the command and nothing else, so that it has exactly the container's ids and limits.
func Process(p *specs.Process) (*libcontainer.Process, error) {
	affinity, err := configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(p.Rlimits)
	if err != nil {
		return nil, err
	}
	out := &libcontainer.Process{
		Args:            p.Args,
		Env:             p.Env,
		UID:             int(p.User.UID),
		GID:             int(p.User.GID),
		Cwd:             p.Cwd,
		Label:           p.SelinuxLabel,
		NoNewPrivileges: &p.NoNewPrivileges,
		AppArmorProfile: p.ApparmorProfile,
		Rlimits:         limits,
		Scheduler:       p.Scheduler,
		IOPriority:      p.IOPriority,
		CPUAffinity:     affinity,
		// Never nil: libcontainer would fall back to the config's, and no capabilities at all is what nothing means.
		Capabilities: &configs.Capabilities{},
	}
	for _, g := range p.User.AdditionalGids {
		out.AdditionalGroups = append(out.AdditionalGroups, int(g))
	}
	if c := p.Capabilities; c != nil {
		*out.Capabilities = configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Permitted: c.Permitted, Inheritable: c.Inheritable, Ambient: c.Ambient,
		}
	}
	if p.Terminal && p.ConsoleSize != nil {
		if p.ConsoleSize.Width > 0xffff || p.ConsoleSize.Height > 0xffff {
			return nil, fmt.Errorf("terminal of %d by %d cells", p.ConsoleSize.Width, p.ConsoleSize.Height)
		}
		out.ConsoleWidth, out.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	return out, nil
}

// limitTypes are the names of setrlimit(2), as runtime-spec's process.rlimits wants them.
var limitTypes = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func rlimits(in []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	var out []configs.Rlimit
	for _, l := range in {
		t, ok := limitTypes[l.Type]
		if !ok {
			return nil, fmt.Errorf("resource limit %q is not one of setrlimit(2)", l.Type)
		}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("resource limit %s: soft %d is above hard %d", l.Type, l.Soft, l.Hard)
		}
		out = append(out, configs.Rlimit{Type: t, Soft: l.Soft, Hard: l.Hard})
	}
	return out, nil
}
