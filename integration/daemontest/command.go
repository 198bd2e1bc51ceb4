package daemontest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Output is what a command wrote, and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int // -1 when it could not be run, or was killed
}

// Crictl runs crictl against the daemon.
func (d *Daemon) Crictl(args ...string) Output {
	endpoint := "unix://" + d.Layout.Socket()
	base := []string{"--config", "/dev/null", "--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", "30s"}
	return d.Run("crictl", append(base, args...)...)
}

// CLI runs the command line of runtimed against the daemon.
func (d *Daemon) CLI(args ...string) Output {
	return d.Run("runtimed", append([]string{"--config", d.ConfigFile}, args...)...)
}

// Run runs one of the programs in Bin, or any other.
func (d *Daemon) Run(program string, args ...string) Output {
	if path := filepath.Join(d.bin, program); exists(path) {
		program = path
	}
	return run(program, args...)
}

func run(program string, args ...string) Output {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		stderr.WriteString(err.Error())
		code = -1
	}
	return Output{strings.TrimRight(stdout.String(), "\n"), strings.TrimRight(stderr.String(), "\n"), code}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
