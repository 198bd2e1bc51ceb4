package config

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// private refuses a file that somebody else can write: it decides what root does.
func private(file string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return Problems{{File: file, Text: "this is not a regular file"}}
	case info.Mode().Perm()&0o022 != 0:
		return Problems{{File: file, Text: fmt.Sprintf("others may write the file (mode %04o): chmod go-w it", info.Mode().Perm())}}
	case !ok || (st.Uid != 0 && st.Uid != uint32(os.Geteuid())):
		return Problems{{File: file, Text: "the file belongs neither to root nor to the user that runs this: chown it"}}
	}
	return nil
}
