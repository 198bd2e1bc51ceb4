package config

import (
	"strings"

	"github.com/moby/sys/capability"
)

// capabilities are the names of those that are known, such as CAP_CHOWN.
var capabilities = func() map[string]bool {
	out := map[string]bool{}
	for _, c := range capability.ListKnown() {
		out["CAP_"+strings.ToUpper(c.String())] = true
	}
	return out
}()
