// Package jail is how the unpack worker gives up what it could do, before it reads the first byte of a layer.
//
// It owns the order: Enter in the first image of the process (mounts, root, limits, bounding set, no_new_privs, execveat of
// itself), Seal in the second (the seccomp filter). Two images, because a thread of Go cannot change the capabilities of
// the others, but execve(2) leaves one thread, whose permitted set is what the bounding set lets through. It never undoes
// anything and never goes on half-jailed: the first error ends the process.
//
// What the second image has: uid 0 in no network, PID, IPC, UTS or cgroup namespace of the host's; a root directory that
// holds /target and /lower/<n> and nothing else, not even /proc; CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP and MKNOD;
// three descriptors (blob, result, stderr); the system calls in seccomp.go.
package jail
