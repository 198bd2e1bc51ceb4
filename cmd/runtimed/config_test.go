package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs the command line and returns what it prints.
func call(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return out.String(), err
}

func TestConfigVerbs(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	for path, text := range map[string]string{
		good: "version = 1\n[trust]\nmode = \"off\"\n",
		bad:  "version = 1\n[trust]\nmod = \"off\"\n[log]\nlevel = 3\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := call("config", "check", good); err != nil || !strings.Contains(out, "nothing is wrong") {
		t.Errorf("check: %q, %v", out, err)
	}
	_, err := call("config", "check", bad)
	want := bad + ":3: trust.mod: there is no such key; is trust.mode meant?\n" + bad + ":5: log.level: wants a string in quotes, not the number 3"
	if err == nil || err.Error() != want {
		t.Errorf("check says\n%v\nwant\n%s", err, want)
	}
	out, err := call("config", "show", "--config", good)
	if err != nil || !strings.Contains(out, "# From "+good+":3.\nmode = 'off'") || !strings.Contains(out, "# From the default.\nroot = '/var/lib/runtimed'") {
		t.Errorf("show: %v\n%s", err, out)
	}
	shown := filepath.Join(dir, "shown.toml")
	if err := os.WriteFile(shown, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := call("config", "check", shown); err != nil {
		t.Errorf("what show prints is wrong: %v", err)
	}
}

func TestBadCalls(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"}, {"serve", "x"}, {"serve", "--nonsense"}, {"config", "nonsense"}, {"config", "check", "a", "b"},
		{"serve", "--config", "/nonexistent/x.toml"}, {"config", "show", "--config", "/nonexistent/x.toml"}, {"config", "check", "/nonexistent/x.toml"},
	} {
		if out, err := call(args...); err == nil || strings.Contains(out, "Usage:") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestHelpListsTheVerbs(t *testing.T) {
	out, err := call("help")
	for _, verb := range []string{"serve", "config"} {
		if err != nil || !strings.Contains(out, verb) {
			t.Errorf("help lacks %s: %v\n%s", verb, err, out)
		}
	}
	if out, err := call("--version"); err != nil || !strings.Contains(out, "runtimed version ") {
		t.Errorf("version: %q, %v", out, err)
	}
}
