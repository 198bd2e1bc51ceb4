package apparmor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// List is the kernel's list of loaded profiles, one "name (mode)" a line.
const List = "/sys/kernel/security/apparmor/profiles"

// patience is how long apparmor_parser may compile.
const patience = 30 * time.Second

//go:embed profile.txt
var template string

// Name of the default profile: runtimed-default- and twelve digits of its text's SHA-256.
func Name() string {
	sum := sha256.Sum256([]byte(template))
	return "runtimed-default-" + hex.EncodeToString(sum[:6])
}

// Text is the default profile, as apparmor_parser(8) reads it.
func Text() string { return strings.ReplaceAll(template, "NAME", Name()) }

// Loaded tells whether the kernel has a profile of that name, in any mode. A list that cannot be read has none.
func Loaded(name string) bool { return loaded(List, name) }

func loaded(list, name string) bool {
	f, err := os.Open(list)
	if err != nil {
		return false
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if i := strings.LastIndex(s.Text(), " ("); i > 0 && s.Text()[:i] == name {
			return true
		}
	}
	return false
}

// Load makes sure that the default profile is there, and returns its name. One that is there is left as it is. An error
// is FailedPrecondition: it says what is missing.
func Load(ctx context.Context) (string, error) { return load(ctx, List, "apparmor_parser") }

func load(ctx context.Context, list, parser string) (string, error) {
	name := Name()
	if loaded(list, name) {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// --add: never in the place of another.
	cmd := exec.CommandContext(ctx, parser, "--add", "--skip-cache", "--quiet")
	cmd.Stdin = strings.NewReader(Text())
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", spec.Preconditionf("the default AppArmor profile cannot be loaded: %s is not installed (Debian: apparmor)", parser)
	case err != nil:
		return "", spec.Preconditionf("the default AppArmor profile cannot be loaded: %w: %s", err, clip(out))
	case !loaded(list, name):
		return "", spec.Preconditionf("the default AppArmor profile %s is not in %s after it was loaded", name, list)
	}
	return name, nil
}

func clip(out []byte) string {
	return fmt.Sprintf("%.300q", bytes.TrimSpace(out))
}
