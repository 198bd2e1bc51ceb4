// Runtimed-unpack unpacks one layer of an image and leaves. runtimed starts it (pkg/image/layer says how); there is nothing
// in it for a person.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/runtimed/runtimed/cmd/unpack/work"
)

// memory is what Go's collector aims to stay below, in bytes. The decoder of zstd's largest window needs about half.
const memory = 56 << 20

func main() {
	runtime.LockOSThread() // Enter changes what belongs to a thread
	debug.SetMemoryLimit(memory)
	if err := work.Main(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "runtimed-unpack:", err)
		os.Exit(1)
	}
}
