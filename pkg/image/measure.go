package image

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/image/content"
)

// measure returns the room that a layer's directory takes: from a record that knows it, else by walking it.
func (s *Store) measure(chain content.Digest, dir string) (layerUse, error) {
	s.mu.Lock()
	for _, img := range s.images {
		for _, l := range img.Layers {
			if l.Chain == chain {
				s.mu.Unlock()
				return l, nil
			}
		}
	}
	s.mu.Unlock()
	return walk(chain, dir)
}

// walk counts each inode once, as du(1) does. It follows no link and opens nothing but directories.
func walk(chain content.Digest, dir string) (layerUse, error) {
	use := layerUse{Chain: chain}
	seen := map[uint64]bool{} // inodes with several names
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		use.Bytes, use.Files = use.Bytes+uint64(st.Blocks)*512, use.Files+1
		return nil
	})
	return use, err
}
