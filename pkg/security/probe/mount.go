package probe

import "golang.org/x/sys/unix"

// HostSysfs tries what a container with a user namespace on the node's network needs beside the namespace: a copy of
// the node's /sys.
func HostSysfs() bool {
	var st unix.Statfs_t
	if unix.Statfs("/sys", &st) != nil || st.Type != unix.SYSFS_MAGIC {
		return false
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/sys", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// MountAttr tries what recursive read-only mounts and mount options need, on a copy of the root mount that nobody sees.
func MountAttr() bool {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID,
	}) == nil
}
