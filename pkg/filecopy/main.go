package filecopy

import (
	"fmt"
	"io"
)

// Put and Get are the command of the copier inside a container, for Main.
func Put(dest, name string) []string { return []string{"put", dest, name} }

// Get is the command that sends what is at a path.
func Get(path string) []string { return []string{"get", path} }

// Main is the copier inside a container: it makes what comes on stdin (Put), or writes what is there to stdout (Get). It
// returns the exit code, 0 or 1; 2 is a command that it does not know.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	warn := func(text string) { fmt.Fprintln(stderr, text) }
	var err error
	switch {
	case len(args) == 3 && args[0] == "put":
		err = Receive(stdin, args[1], args[2])
	case len(args) == 2 && args[0] == "get":
		err = Send(stdout, args[1], warn)
	default:
		warn("the copier does not know this command; is the daemon's libexec of its own version?")
		return 2
	}
	if err != nil {
		warn(err.Error())
		return 1
	}
	return 0
}
