package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// assign copies a parsed file into c, key by key, and returns every key that is unknown or ill-typed.
func (c *Config) assign(tree map[string]any) []Problem {
	var list []Problem
	assignTable(reflect.ValueOf(c).Elem(), tree, "", &list)
	return list
}

func assignTable(into reflect.Value, tree map[string]any, prefix string, list *[]Problem) {
	for _, name := range sortedKeys(tree) {
		full := join(prefix, name)
		field := fieldOf(into, name)
		if !field.IsValid() {
			*list = append(*list, Problem{Key: full, Text: unknown(full)})
			continue
		}
		assignValue(field, tree[name], full, list)
	}
}

func assignValue(field reflect.Value, value any, full string, list *[]Problem) {
	table, isTable := value.(map[string]any)
	wrong := func() {
		*list = append(*list, Problem{Key: full, Text: fmt.Sprintf("wants %s, not %s", kindOf(field), nameOf(value))})
	}
	switch field.Kind() {
	case reflect.Struct:
		if !isTable {
			wrong()
			return
		}
		assignTable(field, table, full, list)
	case reflect.Map:
		if !isTable {
			wrong()
			return
		}
		field.Set(reflect.MakeMap(field.Type()))
		for _, key := range sortedKeys(table) {
			one := reflect.New(field.Type().Elem()).Elem()
			assignValue(one, table[key], join(full, key), list)
			field.SetMapIndex(reflect.ValueOf(key), one)
		}
	case reflect.Slice:
		items, ok := value.([]any)
		if !ok {
			wrong()
			return
		}
		out := reflect.MakeSlice(field.Type(), len(items), len(items))
		for i, item := range items {
			assignValue(out.Index(i), item, full, list)
		}
		field.Set(out)
	default:
		if !assignScalar(field, value) {
			wrong()
		}
	}
}

func assignScalar(field reflect.Value, value any) bool {
	switch v := value.(type) {
	case string:
		if field.Kind() == reflect.String {
			field.SetString(v)
			return true
		}
	case bool:
		if field.Kind() == reflect.Bool {
			field.SetBool(v)
			return true
		}
	case int64:
		switch {
		case field.CanInt() && !field.OverflowInt(v):
			field.SetInt(v)
			return true
		case field.CanUint() && v >= 0 && !field.OverflowUint(uint64(v)):
			field.SetUint(uint64(v))
			return true
		}
	}
	return false
}

// fieldOf finds the field with that toml tag.
func fieldOf(s reflect.Value, name string) reflect.Value {
	for i := range s.NumField() {
		if tag := s.Type().Field(i).Tag.Get("toml"); tag == name && tag != "-" {
			return s.Field(i)
		}
	}
	return reflect.Value{}
}

// kindOf says what a key wants.
func kindOf(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return "a string in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a table"
	case reflect.Uint32:
		return "a whole number from 0 to 4294967295"
	}
	return "a whole number"
}

// nameOf says what the file has.
func nameOf(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + clip(v)
	case bool:
		return fmt.Sprintf("%t", v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %g", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func clip(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q…", s[:60])
	}
	return fmt.Sprintf("%q", s)
}

// unknown says that there is no such key, and which one may have been meant.
func unknown(full string) string {
	best, distance := "", 4
	for _, s := range Sections {
		for _, k := range s.Keys {
			name := k.Name
			if d := nearness(full, name); d < distance {
				best, distance = name, d
			}
		}
	}
	if best == "" {
		return "there is no such key; `runtimed config show` lists all"
	}
	return fmt.Sprintf("there is no such key; is %s meant?", best)
}

// nearness is the edit distance of two keys; a key in the wrong table, and one with the table's name alone, are near.
func nearness(written, key string) int {
	if rest, ok := strings.CutPrefix(key, "registry.*."); ok && strings.HasPrefix(written, "registry.") {
		return edits(last(written), rest)
	}
	if last(written) == last(key) {
		return 1
	}
	return edits(written, key)
}

// edits is Levenshtein's distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
