// Package rootfs reads the layers of an image as the kernel's overlayfs would show them, without mounting anything.
//
// It owns the rules of that merge: a character device 0:0 is a whiteout and hides what lies below it; a directory whose
// extended attribute trusted.overlay.opaque is "y" hides all that lies below it; anything but a directory hides the
// directories of lower layers (Documentation/filesystems/overlayfs.rst). It never writes, never leaves the layer
// directories and never follows a symbolic link outside them: every path is opened by openat2(2) below the layer's
// own descriptor, and links are resolved here, one component at a time. What the layers say is the image author's, so
// an attacker's: lengths, depths and the number of links are bounded.
//
// The main object is the Stack. OpenStack opens one descriptor for each layer; lookups go through it, from any number
// of goroutines; Close ends it. Reading trusted.* attributes needs CAP_SYS_ADMIN: a process without it does not see that
// a directory is opaque. The layers that this project unpacks have none (see cmd/unpack/untar); others may.
package rootfs
