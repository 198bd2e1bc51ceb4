package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mounts are the mount points of this namespace.
func mounts(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var points []string
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		points = append(points, strings.Fields(l)[4])
	}
	return points
}

// children are the living and dead children of this process.
func children(t *testing.T) []string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	return fieldsOf(tasks)
}

func fieldsOf(files []string) []string {
	var out []string
	for _, f := range files {
		b, _ := os.ReadFile(f)
		out = append(out, strings.Fields(string(b))...)
	}
	return out
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}
