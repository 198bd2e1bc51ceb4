package config

import (
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Full names of keys are joined by dots; a part that holds a dot itself, such as a registry's name, is kept in quotes.

func join(prefix, name string) string {
	if strings.Contains(name, ".") {
		name = `"` + name + `"`
	}
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// split cuts a full name before its last part.
func split(full string) (prefix, name string) {
	from := len(full)
	if strings.HasSuffix(full, `"`) {
		from = max(0, strings.LastIndex(full[:len(full)-1], `"`))
	}
	i := strings.LastIndex(full[:from], ".")
	if i < 0 {
		return "", full
	}
	return full[:i], full[i+1:]
}

func parent(full string) string { p, _ := split(full); return p }
func last(full string) string   { _, n := split(full); return n }

// lines finds the line of every table and key of a file that parses.
func lines(text []byte) map[string]int {
	out := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = mark(&p, out, "", e)
		case unstable.KeyValue:
			markValue(&p, out, table, e)
		}
	}
	return out
}

// mark notes the line of a key and of the tables that its dotted form makes, and returns its full name.
func mark(p *unstable.Parser, out map[string]int, prefix string, e *unstable.Node) string {
	full := prefix
	for it := e.Key(); it.Next(); {
		n := it.Node()
		full = join(full, string(n.Data))
		if _, ok := out[full]; !ok {
			out[full] = p.Shape(n.Raw).Start.Line
		}
	}
	return full
}

func markValue(p *unstable.Parser, out map[string]int, prefix string, e *unstable.Node) {
	full := mark(p, out, prefix, e)
	if v := e.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			markValue(p, out, full, it.Node())
		}
	}
}
