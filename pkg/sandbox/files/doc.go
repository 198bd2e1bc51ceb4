// Package files makes the files of a pod that its containers see in place of the image's: resolv.conf, hosts, hostname,
// and the memory behind /dev/shm.
//
// It owns those three files in the sandbox's record directory and the mount at Layout.Shm. It never writes through a
// link, never touches a container's root, and reads of the node only its own resolv.conf, hosts and host name.
//
// The life of a pod's files: Check, before anything is made → Create, which replaces what an earlier attempt left →
// containers bind-mount them, and may be allowed to write to them → Remove.
package files
