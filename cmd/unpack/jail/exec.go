package jail

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// execFD is fexecve(3) with an empty environment. The binary must be static: its loader has no path any more.
func execFD(fd int, args []string) error {
	argv := make([]*byte, 0, len(args)+1)
	for _, a := range args {
		p, err := unix.BytePtrFromString(a)
		if err != nil {
			return err
		}
		argv = append(argv, p)
	}
	argv = append(argv, nil)
	envv := []*byte{nil}
	empty := [1]byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	if errno == unix.ENOENT {
		return unix.ENOEXEC // what a dynamically linked binary gets; ENOENT would mislead
	}
	return errno
}
