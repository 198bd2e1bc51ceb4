// Command shim is runtimed-shim with a plan: the file shim.plan beside the program, because a shim gets no environment.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/runtimed/runtimed/cmd/shim/creator"
	"github.com/runtimed/runtimed/cmd/shim/stage"
	"github.com/runtimed/runtimed/integration/killmain/plan"
	"github.com/runtimed/runtimed/pkg/sandbox/launch/wire"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == wire.VerbInit {
		creator.Init() // does not return
	}
	if len(os.Args) != 3 {
		os.Exit(2)
	}
	p, err := load()
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
	switch os.Args[1] {
	case wire.VerbCreate:
		os.Exit(creator.Main(os.Args[2], creator.Options{Observe: p.Observe}))
	case wire.VerbExec:
		os.Exit(stage.Main(os.Args[2], stage.Options{Observe: p.Observe}))
	}
	os.Exit(2)
}

func load() (*plan.Plan, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return plan.Load(filepath.Join(filepath.Dir(self), "shim.plan"))
}
