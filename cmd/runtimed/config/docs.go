package config

import (
	"fmt"
	"io"
	"strings"
)

// WriteDocs writes docs/configuration.md.
func WriteDocs(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, `# Configuration

<!-- Written from cmd/runtimed/config/keys.go: go test ./cmd/runtimed/config -run Docs -update -->

One TOML file, `+"`%s`"+` unless `+"`runtimed serve --config FILE`"+` names another. It need not exist; then every key has its
default. A file begins with `+"`version = %d`"+` and sets only what differs. A key that is unknown, of the wrong type or impossible is an
error with its line, and the daemon does not start. The file must not be writable by others than its owner. It is read once, at the
start.

`+"```"+`
runtimed config show            # what is in force: every key, its meaning, and the line it comes from
runtimed config check FILE      # all that is wrong with a file; ends with 0 when nothing is
`+"```"+`

Several daemons can run on one machine when root, run, cgroup.root, the network's bridge, subnets and nft_table, and the userns range
differ. A second one on the same root or run directory is refused with the pid of the first.
`, DefaultFile, Version)
	d := Default()
	for _, s := range Sections {
		title := "`[" + s.Name + "]`"
		if s.Name == "" {
			title = "Top level"
		}
		fmt.Fprintf(b, "\n## %s\n\n", title)
		if s.Comment != "" {
			fmt.Fprintf(b, "%s\n\n", strings.ReplaceAll(s.Comment, "\n", " "))
		}
		b.WriteString("| key | default | meaning |\n|---|---|---|\n")
		for _, k := range s.Keys {
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", last(k.Name), defaultOf(d, k.Name), k.Comment)
		}
	}
	b.WriteString("\n## Example\n\n```toml\n" + example + "```\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func defaultOf(d Config, key string) string {
	if strings.HasPrefix(key, "registry.") {
		return map[string]string{"mirrors": "`[]`", "plain_http": "`false`", "ca": "empty", "credential_helper": "empty"}[last(key)]
	}
	v := value(d.field(key))
	if v == "''" {
		return "empty"
	}
	return "`" + v + "`"
}

// example is parsed by a test.
const example = `version = 1
root = "/srv/runtimed"

[trust]
mode = "off"

[network]
subnet = "10.200.0.0/16"
subnet6 = ""

[registry."docker.io"]
mirrors = ["mirror.example:5000"]

[registry."mirror.example:5000"]
ca = "/etc/runtimed/mirror-ca.pem"
`
