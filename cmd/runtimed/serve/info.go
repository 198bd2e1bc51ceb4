package serve

import (
	"encoding/json"
	"runtime"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
)

// statusInfo are the documents that `crictl info` shows: the effective configuration under its keys' own names, where the
// networks of CNI come from, and what this program was built with. There is no secret in the configuration: credentials are in files that
// it names.
func statusInfo(c config.Config) map[string]string {
	docs := map[string]any{"config": c.Values(), "golang": runtime.Version()}
	if c.Network.Mode == config.NetworkCNI {
		docs["cniconfig"] = c.CNIConfig()
	}
	info := map[string]string{}
	for name, doc := range docs {
		if b, err := json.Marshal(doc); err == nil {
			info[name] = string(b)
		}
	}
	return info
}
