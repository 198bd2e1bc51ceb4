package supervise_test

import (
	"bytes"
	"os"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// procState is the letter in /proc/<pid>/stat, or 0.
func procState(pid int) byte {
	text, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	return text[bytes.LastIndexByte(text, ')')+2]
}
