// Package untar applies a layer's archive to a directory in overlayfs' form. It is the only parser of layers, linked into
// runtimed-unpack alone, and trusts nothing of what it reads.
//
// It owns the meaning of an entry: the merged tree of the parents and the target must equal what containerd's
// archive.Apply makes by applying the same archives one after the other to a plain directory. It never follows a symbolic
// link itself (links in the parents of a name are resolved in the merged tree, where ".." at the root stays there), never
// names a file by anything but a directory's descriptor and one component, and never calls fsync: the store makes layers
// durable with one syncfs.
//
// Where it differs from archive.Apply, on purpose:
//   - ".wh..wh..opq" spares what this layer has in the directory, also below directories that only its names imply;
//     archive.Apply removes those directories with what is in them.
//   - A directory that the layer itself removes again has no time to set; archive.Apply fails.
//   - Of extended attributes it keeps user.*, security.capability and POSIX ACLs. trusted.* is dropped there too; the other
//     security.* are labels of another host's security modules, and setting them needs CAP_SYS_ADMIN. Links, devices and
//     FIFOs keep none.
//   - A character device 0:0 is a whiteout in this form, so as an entry it removes what has its name.
//   - Names with a directory ".wh.…" in them are refused, and with ".wh..wh.…" (AUFS' own bookkeeping) left out.
//   - A hard link to a file of a lower layer that has other names there is a copy, as overlayfs makes one; the other names
//     stay as they were.
//   - The target of a hard link is looked up before what has the link's name is removed: a target by way of the very
//     symbolic link that the hard link replaces is found.
//   - Bytes that are not zero behind the end of the archive are refused: one reader would see them and another not.
//
// The life of an unpacking: Apply opens a stream (decompress, count, hash, in goroutines of their own), reads entries into
// a tree (descriptors of directories in use, those of lower layers beside them), then hides what opaque directories have
// below them, sets the times of directories, and compares the digest last.
package untar
