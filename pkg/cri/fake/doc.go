// Package fake has stand-ins for what pkg/cri and pkg/cri/control need: sandboxes, containers and images in memory,
// with the real ones' answers for what is missing or in the wrong state. It is for tests of what lies before the door:
// clients, the command line, the door itself. It never touches the kernel.
//
// The zero Runtime and Images are ready for use, from any goroutine.
package fake
