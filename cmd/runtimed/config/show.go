package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// width of a comment, in bytes.
const width = 110

// Write writes the effective configuration as a file that Parse takes, with each key's meaning and where its value
// comes from.
func (c Config) Write(w io.Writer) error {
	b := &strings.Builder{}
	for _, s := range Sections {
		if s.Name == `registry."…"` {
			c.writeRegistries(b, s)
			continue
		}
		if s.Name != "" {
			fmt.Fprintf(b, "%s[%s]\n\n", comment(s.Comment), s.Name)
		}
		for _, k := range s.Keys {
			b.WriteString(comment(k.Comment))
			fmt.Fprintf(b, "# From %s.\n", c.origin(k.Name))
			fmt.Fprintf(b, "%s = %s\n\n", last(k.Name), value(c.field(k.Name)))
		}
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

func (c Config) writeRegistries(b *strings.Builder, s Section) {
	b.WriteString(comment(s.Comment))
	hosts := make([]string, 0, len(c.Registry))
	for host := range c.Registry {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	for i, host := range hosts {
		fmt.Fprintf(b, "[registry.%s]\n\n", value(reflect.ValueOf(host)))
		for _, k := range s.Keys {
			if i == 0 {
				b.WriteString(comment(k.Comment))
			}
			name := last(k.Name)
			fmt.Fprintf(b, "# From %s.\n", c.origin(join(join("registry", host), name)))
			fmt.Fprintf(b, "%s = %s\n\n", name, value(fieldOf(reflect.ValueOf(c.Registry[host]), name)))
		}
	}
}

// origin says where a key's value comes from.
func (c Config) origin(key string) string {
	if n := c.Lines[key]; n > 0 {
		return fmt.Sprintf("%s:%d", c.File, n)
	}
	return "the default"
}

// field is the value of a key that is no registry's.
func (c Config) field(key string) reflect.Value {
	v := reflect.ValueOf(c)
	for part := range strings.SplitSeq(key, ".") {
		v = fieldOf(v, part)
	}
	return v
}

// value writes a value as TOML.
func value(v reflect.Value) string {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return "[]"
	}
	b, err := toml.Marshal(map[string]any{"k": v.Interface()})
	if err != nil {
		panic(err) // strings, numbers and lists of them: there is no such value
	}
	return strings.TrimSpace(strings.TrimPrefix(string(b), "k = "))
}

// comment wraps text into lines that begin with "# ". Line ends in the text stay.
func comment(text string) string {
	var b strings.Builder
	for _, line := range strings.Split(text, "\n") {
		at := 0
		for _, word := range strings.Fields(line) {
			switch {
			case at == 0:
				b.WriteString("# ")
				at = 2
			case at+1+len(word) > width:
				b.WriteString("\n# ")
				at = 2
			default:
				b.WriteString(" ")
				at++
			}
			b.WriteString(word)
			at += len(word)
		}
		if at > 0 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Values is the effective configuration by the names of its keys.
func (c Config) Values() map[string]any {
	var values map[string]any
	b, err := toml.Marshal(c)
	if err == nil {
		err = toml.Unmarshal(b, &values)
	}
	if err != nil {
		panic(err) // strings, numbers and lists of them: there is no such value
	}
	return values
}
