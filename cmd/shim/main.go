// Command runtimed-shim starts containers (create) and runs commands in them (exec), one process each, through
// libcontainer. A sealed copy of it copies files from inside a container (copy). Only the daemon starts it: see pkg/sandbox/launch.
package main

import (
	"fmt"
	"os"

	"github.com/runtimed/runtimed/cmd/shim/creator"
	"github.com/runtimed/runtimed/cmd/shim/stage"
	"github.com/runtimed/runtimed/pkg/filecopy"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == wire.VerbInit:
		creator.Init() // does not return
	case len(os.Args) >= 2 && os.Args[1] == wire.VerbCopy:
		os.Exit(filecopy.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	case len(os.Args) == 3 && os.Args[1] == wire.VerbCreate:
		os.Exit(creator.Main(os.Args[2], creator.Options{}))
	case len(os.Args) == 3 && os.Args[1] == wire.VerbExec:
		os.Exit(stage.Main(os.Args[2], stage.Options{}))
	}
	fmt.Fprintln(os.Stderr, "runtimed-shim is started by the runtimed daemon, not by hand")
	os.Exit(2)
}
