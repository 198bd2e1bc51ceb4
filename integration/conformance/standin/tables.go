package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ipcs -m prints the shared memory segments of its IPC namespace, as util-linux does.
func ipcs([]string) error {
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	fmt.Print(segments(string(text)))
	return nil
}

func segments(table string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n------ Shared Memory Segments --------\n%-10s %-10s %-10s %-10s\n", "key", "shmid", "perms", "bytes")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for _, line := range lines[1:] {
		if f := strings.Fields(line); len(f) > 3 {
			key, _ := strconv.ParseInt(f[0], 10, 64)
			fmt.Fprintf(&out, "0x%08x %-10s %-10s %-10s\n", uint32(key), f[1], f[2], f[3])
		}
	}
	return out.String()
}

// pgrep prints the pids of the processes whose names contain its argument; nothing found is an error.
func pgrep(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: pgrep NAME")
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	found := false
	for _, file := range names {
		pid := filepath.Base(filepath.Dir(file))
		name, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(name), args[1]) && pid != strconv.Itoa(os.Getpid()) {
			found = true
			fmt.Println(pid)
		}
	}
	if !found {
		os.Exit(1)
	}
	return nil
}
