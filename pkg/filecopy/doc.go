// Package filecopy is how `runtimed cp` carries a file or a directory between the host and a container: a stream of
// frames of our own, who writes it from a tree (Send), and who makes a tree from it (Receive). The command line and the
// copier inside the container (Main) link both; one of them believes nothing of what the other says.
//
// It owns the stream's form and its limits, and knows nothing else of ours.
//
// # The stream
//
// The line "runtimed-copy 1", one entry, the byte 'e', and the end. An entry is a header and what belongs to its kind:
//
//	file       'f' header, pieces of data (length uint32, 1 to 65536, bytes), a piece of length 0
//	link       'l' header, its target (length uint16, 1 to 4095, bytes)
//	directory  'd' header, entries, the byte 'u'
//
// A header is mode (uint32: the nine permission bits), seconds (int64) and nanoseconds (uint32) of the last change, and
// the name (length uint16, bytes). Numbers are big-endian. A name is one component of a path, never "." or "..": there is
// no path in a stream. The outermost entry has none: who receives it knows from its own user what to call it.
//
// # Safety
//
// Everything is made with os.Root, below one directory that the receiver's own user has named, and every level below its
// own directory: no link leads out, whoever made it and whenever. Files are made anew, and never opened through what is
// there. Set-user-id bits, owners, extended attributes and devices are not in the stream, so nothing of a container
// becomes a privileged program of the host.
package filecopy
