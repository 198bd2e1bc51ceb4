package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

const busybox = "/bin/busybox"

// word is a command line that no shell is needed for.
var word = regexp.MustCompile(`^[a-z]+$`)

// shell becomes busybox's, or the program that is a script's only word: busybox would run its own applet of that name
// without looking at the file.
func shell(args []string) error {
	if len(args) == 3 && args[1] == "-c" && word.MatchString(args[2]) {
		if path, err := find(args[2], os.Getenv("PATH")); err == nil {
			return unix.Exec(path, []string{args[2]}, os.Environ())
		} else if errors.Is(err, unix.EACCES) {
			fmt.Fprintf(os.Stderr, "%s: %s: Permission denied\n", args[0], args[2])
			os.Exit(126)
		}
	}
	return unix.Exec(busybox, append([]string{"sh"}, args[1:]...), os.Environ())
}

// find is the file that a name means; EACCES when all that have the name may not be executed.
func find(name, path string) (string, error) {
	last := error(unix.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		file := filepath.Join(dir, name)
		switch err := unix.Access(file, unix.X_OK); {
		case err == nil:
			return file, nil
		case errors.Is(err, unix.EACCES):
			last = err
		}
	}
	return "", last
}
