package config

import (
	"strings"
	"testing"
)

func TestTelemetry(t *testing.T) {
	long := "/" + strings.Repeat("s", maxSocket)
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"[metrics]\nlisten = \"off\"", ""},
		{"[metrics]\nlisten = \"/run/other.sock\"", ""},
		{"[metrics]\nlisten = \"[::1]:9430\"", ""},
		{"[tracing]\nendpoint = \"collector.example:4317\"\nca = \"/etc/ca.pem\"\nper_million = 0", ""},
		{"[tracing]\nendpoint = \"[::1]:4317\"\nplaintext = true", ""},

		{"[metrics]\nlisten = \"\"", "f.toml:3: metrics.listen: \"\" is not \"socket\""},
		{"[metrics]\nlisten = \"0.0.0.0:9430\"", "metrics.listen: \"0.0.0.0:9430\" is not"},
		{"[metrics]\nlisten = \"127.0.0.1:0\"", "metrics.listen: \"127.0.0.1:0\" is not"},
		{"[metrics]\nlisten = \"localhost:9430\"", "metrics.listen: \"localhost:9430\" is not"},
		{"[metrics]\nlisten = \"/a/../b\"", "metrics.listen: \"/a/../b\" is not an absolute, clean path"},
		{"[metrics]\nlisten = \"" + long + "\"", "metrics.listen: the path has 101 bytes"},
		{"[metrics]\nlisten = \"/run/runtimed/runtimed.sock\"", "metrics.listen: /run/runtimed/runtimed.sock is the CRI's socket"},
		{"[tracing]\nendpoint = \"collector\"", "tracing.endpoint: \"collector\" is not HOST:PORT"},
		{"[tracing]\nendpoint = \"http://c:4317\"", "tracing.endpoint:"},
		{"[tracing]\nendpoint = \":4317\"", "tracing.endpoint:"},
		{"[tracing]\nca = \"ca.pem\"", "tracing.ca: \"ca.pem\" is not"},
		{"[tracing]\nca = \"/ca.pem\"\nplaintext = true", "tracing.ca: means nothing with tracing.plaintext"},
		{"[tracing]\nper_million = 1000001", "tracing.per_million: 1000001 is out of range"},
	} {
		_, err := Parse("f.toml", []byte("version = 1\n"+c.text+"\n"))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, not %q", c.text, err, c.want)
		}
	}
	for listen, want := range map[string]string{"socket": "unix /run/runtimed/metrics.sock", "off": " ", "/x": "unix /x", "127.0.0.1:1": "tcp 127.0.0.1:1"} {
		c := Default()
		c.Metrics.Listen = listen
		if network, address := c.MetricsAddress(); network+" "+address != want {
			t.Errorf("%s: %s %s", listen, network, address)
		}
	}
}
