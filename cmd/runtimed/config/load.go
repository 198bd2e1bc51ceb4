package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	Line int    // from 1; 0 where no line is to blame
	Key  string // full name, or ""
	Text string
}

func (p Problem) Error() string {
	where := p.File
	if where == "" {
		where = "configuration"
	}
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, p.Line)
	}
	if p.Key != "" {
		return fmt.Sprintf("%s: %s: %s", where, p.Key, p.Text)
	}
	return where + ": " + p.Text
}

// Problems are all that is wrong, one line each. Load returns it as its error.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes all problems errdefs.ErrInvalidArgument.
func (p Problems) Is(target error) bool { return errors.Is(spec.Invalidf("%s", ""), target) }

// Load reads the file and fills what it does not set with defaults. DefaultFile may be absent: then all are defaults.
// The file must not be writable by others than its owner, who is root or the daemon's user.
func Load(file string) (Config, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && file == DefaultFile {
		c := Default()
		return c, c.problems(c.validate())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("the configuration file %q is not there: name one that is; without one it is %s, or else all defaults: %w", file, DefaultFile, fs.ErrNotExist)
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Config{}, err
	}
	if err := private(file, info); err != nil {
		return Config{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, err
	}
	if len(text) > maxFile {
		return Config{}, Problems{{File: file, Text: fmt.Sprintf("the file is longer than %d bytes", maxFile)}}
	}
	return Parse(file, text)
}

// Parse is Load for bytes; file only names them in errors. The error, if any, is Problems.
func Parse(file string, text []byte) (Config, error) {
	c := Default()
	c.File, c.Lines = file, map[string]int{}
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return c, Problems{syntax(file, err)}
	}
	c.Lines = lines(text)
	list := c.assign(tree)
	if _, said := tree["version"]; !said {
		list = append([]Problem{{Key: "version", Text: fmt.Sprintf("is missing: begin the file with version = %d", Version)}}, list...)
	}
	wrong := map[string]bool{} // what could not be assigned is complained of once
	for _, p := range list {
		wrong[p.Key] = true
	}
	list = append(list, slices.DeleteFunc(c.validate(), func(p Problem) bool { return wrong[p.Key] })...)
	return c, c.problems(list)
}

// syntax turns a parser's error into a Problem.
func syntax(file string, err error) Problem {
	p := Problem{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	var d *toml.DecodeError
	if errors.As(err, &d) {
		p.Line, _ = d.Position()
	}
	return p
}

// problems completes what was found with file and lines, in the file's order.
func (c Config) problems(list []Problem) error {
	if len(list) == 0 {
		return nil
	}
	for i := range list {
		list[i].File = c.File
		if list[i].Line == 0 {
			list[i].Line = c.line(list[i].Key)
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int { return a.Line - b.Line })
	return Problems(list)
}

// line is that of the key, of the nearest table around it, or of the first key in it; 0 where the file has none of them.
func (c Config) line(key string) int {
	for name := key; name != ""; name = parent(name) {
		if n := c.Lines[name]; n > 0 {
			return n
		}
	}
	return 0
}
