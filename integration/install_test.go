package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// installed runs make install into a directory, with files in the place of the programs.
func installed(t *testing.T, dest, bin string) {
	t.Helper()
	cmd := exec.Command("make", "-s", "-o", "build", "install", "BIN="+bin, "DESTDIR="+dest, "PREFIX=/opt/rt")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
}

func TestInstall(t *testing.T) {
	dest, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"runtimed", "runtimed-shim", "runtimed-monitor", "runtimed-init", "runtimed-unpack"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	installed(t, dest, bin)
	for path, mode := range map[string]os.FileMode{
		"opt/rt/lib/runtimed/runtimed": 0o755, "opt/rt/lib/runtimed/runtimed-shim": 0o755, "opt/rt/lib/runtimed/runtimed-monitor": 0o755,
		"opt/rt/lib/runtimed/runtimed-init": 0o755, "opt/rt/lib/runtimed/runtimed-unpack": 0o755, "opt/rt/bin/runtimed": 0o755,
		"opt/rt/lib/systemd/system/runtimed.service": 0o644, "opt/rt/share/doc/runtimed/operations.md": 0o644,
		"etc/runtimed/config.toml": 0o644, "etc/crictl.yaml": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(dest, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", path, info, err, mode)
		}
	}
	unit, err := os.ReadFile(filepath.Join(dest, "opt/rt/lib/systemd/system/runtimed.service"))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=/opt/rt/lib/runtimed/runtimed serve") || strings.Contains(string(unit), "/usr/local") {
		t.Errorf("the unit: %v\n%s", err, unit)
	}
	for _, line := range []string{"Type=notify", "WatchdogSec=60", "Delegate=yes", "KillMode=process"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}

	mine := filepath.Join(dest, "etc/runtimed/config.toml")
	if err := os.WriteFile(mine, []byte("version = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	installed(t, dest, bin)
	if b, err := os.ReadFile(mine); err != nil || string(b) != "version = 1\n" {
		t.Errorf("a second install changed the configuration: %q, %v", b, err)
	}
	cmd := exec.Command("make", "-s", "uninstall", "DESTDIR="+dest, "PREFIX=/opt/rt")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make uninstall: %v\n%s", err, out)
	}
	var left []string
	filepath.WalkDir(dest, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left = append(left, strings.TrimPrefix(path, dest))
		}
		return nil
	})
	if got := strings.Join(left, " "); got != "/etc/crictl.yaml /etc/runtimed/config.toml" {
		t.Errorf("after uninstall there is %s", got)
	}
}
