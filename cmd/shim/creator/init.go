package creator

import "github.com/opencontainers/runc/libcontainer"

// Init is what the program does when its first argument is wire.VerbInit: it is the container's first process, on its
// way from the creator to the container's program. It does not return.
func Init() { libcontainer.Init() }
