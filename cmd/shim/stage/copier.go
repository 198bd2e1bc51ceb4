package stage

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/exeseal"

	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
)

// copierFD is where the sealed program is in the process that executes it: the first descriptor after the streams.
const copierFD = "/proc/self/fd/3"

// asCopier makes the process a sealed copy of this program, so that nothing of the image is run and nothing of the host's
// file can be changed through it (CVE-2019-5736). It is root inside, with no more than the container's bounding set; its
// environment is its own. The file returned is to be held until the process has started.
func asCopier(p *libcontainer.Process) (*os.File, error) {
	own, err := exeseal.CloneSelfExe("")
	if err != nil {
		return nil, fmt.Errorf("sealed copy of this program: %w", err)
	}
	p.Args = append([]string{copierFD, wire.VerbCopy}, p.Args...)
	p.Env = []string{"GOMAXPROCS=1"}
	p.Cwd = "/"
	p.UID, p.GID, p.AdditionalGroups = 0, 0, nil
	c := *p.Capabilities
	c.Effective, c.Permitted = slices.Clone(c.Bounding), slices.Clone(c.Bounding)
	c.Inheritable, c.Ambient = nil, nil
	p.Capabilities = &c
	p.ExtraFiles = []*os.File{own}
	return own, nil
}
