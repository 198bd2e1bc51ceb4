package content

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// maxDepth bounds how deep a document may nest; real ones need five.
const maxDepth = 32

// members of a manifest, an index and a descriptor that are read here or that tell the kinds apart.
var members = []string{
	"schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "subject", "artifactType",
	"size", "digest", "data", "urls", "platform", "architecture", "os", "variant", "fsLayers", "history",
}

// oneReading refuses a document that two parsers could read in two ways: a member that is there twice, and, where fold
// is set, a known member in another case (encoding/json takes either; a verifier in another language does not).
func oneReading(b []byte, fold bool) error {
	if !utf8.Valid(b) {
		return spec.Invalidf("the document is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := walk(d, fold, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return spec.Invalidf("the document goes on after its end")
	}
	return nil
}

func walk(d *json.Decoder, fold bool, depth int) error {
	if depth > maxDepth {
		return spec.Invalidf("the document nests deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return spec.Invalidf("the document is not JSON: %s", Clip(err.Error()))
	}
	switch t {
	case json.Delim('{'):
		return walkObject(d, fold, depth)
	case json.Delim('['):
		for d.More() {
			if err := walk(d, fold, depth+1); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	if err != nil {
		return spec.Invalidf("the document is not JSON: %s", Clip(err.Error()))
	}
	return nil
}

func walkObject(d *json.Decoder, fold bool, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return spec.Invalidf("the document is not JSON: %s", Clip(err.Error()))
		}
		name, _ := t.(string)
		if seen[name] {
			return spec.Invalidf("the document has the member %q twice", Clip(name))
		}
		seen[name] = true
		if fold && misspelt(name) {
			return spec.Invalidf("the document has a member %q, which another reader may take for one in lower case", Clip(name))
		}
		// Annotations are free text: their keys may differ in case alone.
		if err := walk(d, fold && name != "annotations", depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return spec.Invalidf("the document is not JSON: %s", Clip(err.Error()))
	}
	return nil
}

func misspelt(name string) bool {
	for _, m := range members {
		if name != m && strings.EqualFold(name, m) {
			return true
		}
	}
	return false
}
