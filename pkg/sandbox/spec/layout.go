package spec

import (
	"path/filepath"
	"strconv"
)

// Layout names every path that runtimed uses. All three directories are absolute and clean. Run must be short: the
// longest socket path below it is len(Run)+34 bytes, and sockaddr_un (unix(7)) holds 107.
type Layout struct {
	Root  string // durable: records, images; 0700
	Run   string // sockets, pins, mounts; 0700, its own private mount
	Netns string // where CNI daemons look for network namespaces: /run/netns
}

// Sandboxes is the directory of all sandbox records.
func (l Layout) Sandboxes() string { return filepath.Join(l.Root, "sandboxes") }

// Sandbox is the record directory of a sandbox.
func (l Layout) Sandbox(sid string) string { return filepath.Join(l.Root, "sandboxes", sid) }

// Container is the record directory of a container.
func (l Layout) Container(sid, cid string) string {
	return filepath.Join(l.Root, "sandboxes", sid, "containers", cid)
}

// Quarantine is where unreadable records are set aside.
func (l Layout) Quarantine() string { return filepath.Join(l.Root, "quarantine") }

// Images is the image store's directory; Layers, below it, holds one lower directory per chain id (LayerDir).
func (l Layout) Images() string { return filepath.Join(l.Root, "images") }

// Layers is the common parent of all layers: the one directory that is idmapped at a container's start.
func (l Layout) Layers() string { return filepath.Join(l.Root, "images", "layers") }

// Pin is the bind mount that keeps a pod's namespace: kind is user, ipc or uts.
func (l Layout) Pin(sid, kind string) string { return filepath.Join(l.Run, "ns", sid, kind) }

// NetnsPin is the pin of a pod's network namespace.
func (l Layout) NetnsPin(sid string) string { return filepath.Join(l.Netns, sid) }

// Shm is the mount point of a pod's /dev/shm.
func (l Layout) Shm(sid string) string { return filepath.Join(l.Run, "shm", sid) }

// Rootfs is where the creator mounts a container's root, in its own mount namespace. On the host the directory is
// there, and empty, because libcontainer changes into it for a later exec too.
func (l Layout) Rootfs(cid string) string { return filepath.Join(l.Run, "rootfs", cid) }

// ImageMount is where the creator mounts an image for a container's mount, in its own mount namespace: index is the
// mount's in the request. On the host there is nothing.
func (l Layout) ImageMount(index int) string {
	return filepath.Join(l.Run, "mounts", "image-"+strconv.Itoa(index))
}

// ShimSocket is the monitor's control socket.
func (l Layout) ShimSocket(cid string) string { return filepath.Join(l.Run, "shims", cid[:20]+".sock") }

// Socket is the CRI endpoint.
func (l Layout) Socket() string { return filepath.Join(l.Run, "runtimed.sock") }

// Files of a record directory.
const (
	SpecFile    = "spec.json"
	StatusFile  = "status.json"
	NetworkFile = "network.json"
	ConfigFile  = "config.json" // OCI runtime-spec, written at Start
	LaunchFile  = "launch.json" // Launch, written at Start
	StartedFile = "started.json"
	ExitFile    = "exit.json"
	// LockFile carries a POSIX record lock (fcntl(2) F_SETLK, kept across execve) that the shim takes first and holds
	// while it lives: F_GETLK names its pid, without trusting any record.
	LockFile = "shim.lock"
	// UpperDir and WorkDir are overlayfs' directories, StateDir is libcontainer's root, VolumesDir holds image volumes.
	UpperDir   = "upper"
	WorkDir    = "work"
	StateDir   = "state"
	VolumesDir = "volumes"
)

// LayerDir is the name of a layer's directory below Layers: the hex part of its chain id.
func LayerDir(chainID string) string {
	const prefix = "sha256:"
	if len(chainID) > len(prefix) && chainID[:len(prefix)] == prefix {
		return chainID[len(prefix):]
	}
	return chainID
}

// Launch is launch.json: what the creator needs beside config.json. The daemon writes it at Start; the creator and
// the exec stage read it.
type Launch struct {
	Version     int
	SandboxID   string
	ContainerID string
	Layout      Layout
	Layers      []string // chain ids, lowest first; never empty
	// PIDOwner is the process whose PID namespace config.json names, where it names one by path: the creator joins no
	// other that has got its pid.
	PIDOwner *Process
	// UserNamespace is the path of the pod's user namespace pin, or "" for the node's ids.
	UserNamespace string
	// Volumes are the image's volumes that no mount of the request covers: absolute container paths. Each becomes a
	// directory below VolumesDir, filled from the image's content there.
	Volumes []string
	// Images are those that the container's mounts name, each to be mounted at Layout.ImageMount(Index).
	Images []LaunchImage
	// Hooks: config.json has hooks, which are those of CDI devices. Without it the creator refuses a config.json with any.
	Hooks   bool
	LogPath string // absolute; "" writes no log
	TTY     bool
	Stdin   bool
	// StdinOnce: stdin is closed when the first client that attached to it leaves.
	StdinOnce bool
	// CgroupPath is the container's group, ShimCgroup the group that the creator moves itself to, both below each
	// hierarchy's mount point.
	CgroupPath string
	ShimCgroup string
}

// LaunchImage is an image to be mounted read-only.
type LaunchImage struct {
	Index   int
	Layers  []string // chain ids, lowest first; never empty
	SubPath string   // clean and relative; "" is all of it
}
