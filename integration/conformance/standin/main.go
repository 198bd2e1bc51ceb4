// Command standin is the program of the images that critest asks for, under the name that each of them expects:
//
//	sh          looks a lone word up in PATH and executes that file; everything else is busybox's shell
//	ipcs        lists shared memory segments
//	pgrep       lists processes by name
//	nginx       a web server with a pid file and nginx's command line, on port 80 or the one in PORT
//	httpd       a web server that says so in its log
//	nonewprivs  prints its effective user id; the file is set-user-ID root
//	pause       does nothing until it is told to stop
//
// Debian's static busybox has everything else, but prefers its own applets to files, and has neither ipcs nor pgrep.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	programs := map[string]func([]string) error{
		"sh": shell, "ipcs": ipcs, "pgrep": pgrep, "nginx": nginx, "httpd": httpd, "nonewprivs": nonewprivs, "pause": pause,
	}
	// The file's name, for nginx changes the name that it was called by.
	name := filepath.Base(os.Args[0])
	if exe, err := os.Readlink("/proc/self/exe"); err == nil && programs[filepath.Base(exe)] != nil {
		name = filepath.Base(exe)
	}
	run, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "standin: there is no program %q\n", name)
		os.Exit(127)
	}
	if err := run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
