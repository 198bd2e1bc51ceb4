package untar

import (
	"archive/tar"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/rootfs"
)

const (
	paxXattr = "SCHILY.xattr."
	// maxXattrs bounds the extended attributes of one file, names and values; the kernel's own limits are XATTR_NAME_MAX
	// (255), XATTR_SIZE_MAX (64 KiB) and those of the file system.
	maxXattrs = 256 << 10
)

// kept tells whether an extended attribute of an archive or of a lower layer is kept.
func kept(key string) bool {
	switch key {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(key, "user.") && len(key) > len("user.")
}

func xattrsOf(h *tar.Header) (map[string]string, error) {
	var xattrs map[string]string
	total := 0
	for record, value := range h.PAXRecords {
		key, ok := strings.CutPrefix(record, paxXattr)
		if !ok || !kept(key) {
			continue
		}
		total += len(key) + len(value)
		if len(key) > 255 || len(value) > 64<<10 || total > maxXattrs || strings.ContainsRune(key, 0) {
			return nil, badf("extended attribute %s of %s is too large", short(key), short(h.Name))
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[key] = value
	}
	return xattrs, nil
}

// copyXattrsFrom copies the extended attributes of a lower layer's file or directory.
func (t *tree) copyXattrsFrom(n rootfs.Node, to int) error {
	f, err := t.lower.Open(n)
	if err != nil {
		return kernel("open", n.Path, err)
	}
	defer f.Close()
	return kernel("copy the extended attributes of", n.Path, copyXattrs(int(f.Fd()), to))
}

func copyXattrs(from, to int) error {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	var value []byte
	for key := range strings.SplitSeq(string(names[:n]), "\x00") {
		if !kept(key) {
			continue
		}
		if value == nil {
			value = make([]byte, 64<<10)
		}
		n, err := unix.Fgetxattr(from, key, value)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, key, value[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}
