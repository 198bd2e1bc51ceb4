package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	for _, args := range [][]string{nil, {"images"}, {"digest", "x"}, {"walk"}} {
		if err := command(args); err == nil || !strings.Contains(err.Error(), "usage") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := command([]string{"run", "-nonsense"}); err == nil {
		t.Error("a flag that is not there")
	}
}

// The layout has everything that a machine without a compiler needs.
func TestImages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	if err := images(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"oci-layout", "index.json", "blobs/sha256"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// What was set up is taken down, the last first, also when something stops in the middle.
func TestStage(t *testing.T) {
	s, order := &stage{}, ""
	func() {
		defer func() {
			if broken := recover(); broken != error(errStage) {
				t.Errorf("%v", broken)
			}
			s.close()
		}()
		s.Cleanup(func() { order += "first" })
		s.Cleanup(func() { order += "second " })
		s.Fatalf("stopped on purpose: %v", errors.New("x"))
	}()
	if order != "second first" || !s.failed {
		t.Errorf("%q, failed %v", order, s.failed)
	}
}
