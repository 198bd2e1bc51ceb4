// Package creator makes one container and then becomes its monitor, in the same process.
//
// It owns the container's root file system (one idmapped mount of all layers, an overlay, the image's volumes), its
// standard streams, and the start of its init through libcontainer, up to the point where that init waits at its fifo.
// It never decides what a container may do (config.json says it), never lets the program go (the monitor does), writes
// no record but the lock, and knows nothing of the daemon but four descriptors.
//
// # Life
//
// The launcher starts it in a new mount namespace whose propagation is unchanged, with the descriptors that
// pkg/sandbox/launch/wire names. It waits until the launcher has recorded it; then the steps of the flow "creator"
// run, and the last one replaces the program. It mounts nothing outside the run directory, which it covers, and which
// must be a private mount of its own on the host; so nothing of a container is ever seen in the host's mount table.
//
// # What outlives a failure
//
// When a step fails, the undos of all steps run, and the reason goes to the status pipe. They remove, in the record
// directory, upper, work, volumes and state; on the host, the empty directory at the root file system's path; and the
// container's processes and cgroup. What stays are shim.lock, whose lock is gone with the process, and the shims'
// cgroup, which all shims share.
//
// When the process is killed in the middle, no undo runs, and this may be left: any of the files named above below the
// record directory (the record's undo removes them with it); the directory at Layout.Rootfs; the control socket, when
// the monitor had made it; and the container's cgroup, below Launch.CgroupPath in each hierarchy, with the init and its
// helpers in it. An init that has not entered the cgroup yet ends by itself: its pipes from the creator are closed.
// All of it is found by the id. Mounts need no undo: they end with the last process in their namespace.
//
// # What a container cannot reach
//
// The init executes a copy of this program that is read-only (libcontainer's exeseal: an overlay made for this one
// descriptor, so no page is copied), and /proc/self/exe is the image's program from execve on (CVE-2019-5736). All
// descriptors above 2 are closed before that execve, and a working directory outside of the root file system is
// refused (CVE-2024-21626).
package creator
