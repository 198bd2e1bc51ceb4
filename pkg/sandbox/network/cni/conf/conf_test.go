package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const good = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}`

func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLoad: the first file by name decides, for good or ill.
func TestLoad(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string // file and programs, or a part of the error
	}{
		"one list":              {map[string]string{"10-a.conflist": good}, "10-a.conflist [bridge host-local portmap]"},
		"one plugin":            {map[string]string{"10-a.conf": `{"cniVersion":"0.3.1","name":"n","type":"ptp"}`}, "10-a.conf [ptp]"},
		"a list named json":     {map[string]string{"10-a.json": good}, "10-a.json [bridge host-local portmap]"},
		"the first by name":     {map[string]string{"20-b.conflist": good, "10-a.conf": `{"name":"n","type":"ptp"}`}, "10-a.conf [ptp]"},
		"others are passed by":  {map[string]string{"00-a.txt": "x", ".00.conflist": "x", "05-dir.conflist/x": "", "10-a.conflist": good}, "10-a.conflist [bridge host-local portmap]"},
		"loopback is passed by": {map[string]string{"00-lo.conf": `{"cniVersion":"1.0.0","name":"lo","type":"loopback"}`, "10-a.conflist": good}, "10-a.conflist [bridge host-local portmap]"},
		"parts in a directory":  {map[string]string{"10-a.conflist": good, "net/10-x.conf": `{"type":"tuning"}`, "net/readme": "x", "net/.x.conf": "x"}, "10-a.conflist [bridge host-local portmap tuning]"},
		"parts alone":           {map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"net"}`, "net/10-x.conf": `{"type":"tuning"}`}, "10-a.conflist [tuning]"},
		"parts that are not wanted": {map[string]string{"10-a.conflist": strings.Replace(good, `"name"`, `"loadOnlyInlinedPlugins":true,"name"`, 1), "net/10-x.conf": `x`},
			"10-a.conflist [bridge host-local portmap]"},
		"the best of versions": {map[string]string{"10-a.conflist": strings.Replace(good, `"name"`, `"cniVersions":["0.4.0","1.1.0","9.0.0"],"name"`, 1)}, "10-a.conflist [bridge host-local portmap]"},
		"nothing":              {nil, "there is no network configuration"},
		"only loopback":        {map[string]string{"00-lo.conf": `{"name":"lo","type":"loopback"}`}, "there is no network configuration"},
		"a torn first":         {map[string]string{"10-a.conflist": good[:40], "20-b.conflist": good}, "10-a.conflist in "},
		"a torn part":          {map[string]string{"10-a.conflist": good, "net/10-x.conf": `{`}, "net/10-x.conf"},
		"a part of nothing":    {map[string]string{"10-a.conflist": good, "net/10-x.conf": `null`}, "missing 'type'"},
		"no plugin":            {map[string]string{"10-a.conflist": `{"cniVersion":"1.0.0","name":"net"}`}, "names no plugin"},
		"null":                 {map[string]string{"10-a.conflist": `null`}, "no name"},
		"null alone":           {map[string]string{"10-a.conf": `null`}, "no name"},
		"no name":              {map[string]string{"10-a.conf": `{"type":"ptp"}`}, "no name"},
		"a path for a name":    {map[string]string{"10-a.conf": `{"name":"../x","type":"ptp"}`}, "invalid characters"},
		"a long name":          {map[string]string{"10-a.conf": `{"name":"` + strings.Repeat("x", 129) + `","type":"ptp"}`}, "129 bytes"},
		"a path for a plugin":  {map[string]string{"10-a.conf": `{"name":"x","type":"../sh"}`}, "is a path"},
		"a later version":      {map[string]string{"10-a.conf": `{"cniVersion":"1.2.0","name":"x","type":"ptp"}`}, "speaks 1.1.0 and before"},
		"no version":           {map[string]string{"10-a.conf": `{"cniVersion":"new","name":"x","type":"ptp"}`}, "cniVersion"},
		"many plugins":         {map[string]string{"10-a.conflist": `{"name":"x","plugins":[` + strings.Repeat(`{"type":"p"},`, 64) + `{"type":"p"}]}`}, "65 plugins"},
		"a large file":         {map[string]string{"10-a.conflist": strings.Repeat(" ", MaxFile+1)}, "larger than"},
	} {
		dir := directory(t, c.files)
		n, err := Load(dir)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprintf("%s %v", filepath.Base(n.File), n.Programs())
			if again, err := Parse(n.List.Bytes); err != nil || fmt.Sprint(again.Programs()) != fmt.Sprint(n.Programs()) {
				t.Errorf("%s: its normal form reads back as %v, %v", name, again, err)
			}
		} else if !strings.Contains(got, dir) {
			t.Errorf("%s: the error does not name the directory: %v", name, err)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestLoadOfWhatIsNoDirectory(t *testing.T) {
	dir := directory(t, map[string]string{"file": ""})
	for path, want := range map[string]string{dir + "/none": "is not there", dir + "/file": "not a directory"} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestFilesThatAreNotRead: everybody's, and what would hold the reader.
func TestFilesThatAreNotRead(t *testing.T) {
	dir := directory(t, map[string]string{"10-a.conflist": good})
	path := dir + "/10-a.conflist"
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "everybody may write it") {
		t.Errorf("everybody's: %v", err)
	}
	os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a FIFO: %v", err)
	}
	os.Remove(path)
	if err := os.Symlink(dir+"/gone", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "there is no network configuration") {
		t.Errorf("a link to nothing: %v", err)
	}
}

func TestVersionsAndCapabilities(t *testing.T) {
	n, err := Load(directory(t, map[string]string{"a.conflist": strings.Replace(good, `"name"`, `"cniVersions":["0.4.0","1.1.0"],"name"`, 1)}))
	if err != nil {
		t.Fatal(err)
	}
	if !n.Speaks("1.1.0") || !n.Speaks("0.4.0") || n.Speaks("1.2.0") {
		t.Errorf("version %s", n.List.CNIVersion)
	}
	if !n.Can("portMappings") || n.Can("dns") {
		t.Error("capabilities")
	}
	n, err = Load(directory(t, map[string]string{"a.conf": `{"name":"n","type":"ptp"}`}))
	if err != nil || n.Speaks("0.4.0") || n.List.CNIVersion != "0.1.0" {
		t.Errorf("without a version: %v, %v", n, err)
	}
}

// FuzzConf: no file makes the reader panic, and what it takes it takes again.
func FuzzConf(f *testing.F) {
	for _, s := range []string{good, `null`, `{}`, `[]`, `{"name":"n","type":"ptp"}`, `{"name":"n","plugins":[null]}`, `{"name":"n","cniVersions":[1]}`, `{"name":"n","plugins":[{"type":"a/b"}],"disableGC":"TRUE"}`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, list bool) {
		name := "/nonexistent/a.conf"
		if list {
			name = "/nonexistent/a.conflist"
		}
		n, err := parseFile(name, []byte(text))
		if err != nil {
			return
		}
		if _, err := Parse(n.List.Bytes); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
