// Package layer has image layers unpacked by the unpack worker, a process that can do nothing else.
//
// It owns the daemon's side: starting runtimed-unpack, handing it the blob and the directories, ending it, and reading
// its answer as the word of a process that may have been taken over. It never parses a byte of a layer: that is
// cmd/unpack/untar, linked into the worker alone.
//
// # The worker
//
// Worker.Unpack starts one process for one layer, in new mount, PID, network, IPC, UTS and cgroup namespaces, with an
// empty environment. The process (cmd/unpack/jail) binds the target (nosuid, nodev, noexec) and the lower layers
// (read-only as well) into a tmpfs and pivots into it, so that no other file has a name for it; cuts its bounding set
// down to six capabilities, sets no_new_privs and executes itself again, which leaves every thread with those six; then
// loads a seccomp allow-list. It dies with the daemon's thread that started it, and when the context ends.
//
// # What a layer directory looks like
//
// The form is overlayfs': a removed name is a character device 0:0. A directory that hides all that lies below it
// (.wh..wh..opq, or a directory that replaces another) has no trusted.overlay.opaque attribute, although readers honour
// one: setting it needs CAP_SYS_ADMIN, which the worker must not have, and reading it too. A layer directory belongs to
// one chain of layers, so the worker knows what lies below and writes a whiteout for each name that is to be hidden. That
// shows the same tree, needs only CAP_MKNOD, and also works for the root directory, where overlayfs ignores the attribute.
package layer
