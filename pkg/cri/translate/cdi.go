package translate

import (
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// cdiPrefix begins the annotations by which device plugins asked for devices before the CRI had a field (CDI's SPEC.md).
const cdiPrefix = "cdi.k8s.io/"

// cdiDevices are the devices of the field and of the annotations, each once, the field's first.
func (c *check) cdiDevices(config *v1.ContainerConfig) []string {
	const field = "config.CDI_devices"
	if !c.count(field, len(config.GetCDIDevices()), maxItems) {
		return nil
	}
	var out []string
	for i, d := range config.GetCDIDevices() {
		out = c.cdiName(at(field, i)+".name", d.GetName(), out)
	}
	notes := config.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		if !strings.HasPrefix(key, cdiPrefix) {
			continue
		}
		for name := range strings.SplitSeq(notes[key], ",") {
			out = c.cdiName("config.annotations["+shown(key)+"]", name, out)
		}
	}
	c.count(field, len(out), maxItems)
	return out
}

func (c *check) cdiName(field, name string, so []string) []string {
	if c.err != nil {
		return nil
	}
	switch {
	case name == "":
		c.fail(field, "is missing")
	case len(name) > maxName || !parser.IsQualifiedName(name):
		c.fail(field, "%s is not the name of a CDI device, such as vendor.example/class=device", shown(name))
	case slices.Contains(so, name):
		return so
	}
	return append(so, name)
}
