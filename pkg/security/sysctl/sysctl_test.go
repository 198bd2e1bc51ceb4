package sysctl

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	all := Own{Net: true, IPC: true}
	for _, c := range []struct {
		name, key, value string
		own              Own
		ok               bool
	}{
		{"network", "net.core.somaxconn", "1024", all, true},
		{"a device's", "net.ipv4.conf.eth0.rp_filter", "1", all, true},
		{"a range with a tab", "net.ipv4.ip_local_port_range", "1024\t65000", all, true},
		{"shm", "kernel.shm_rmid_forced", "1", all, true},
		{"msg", "kernel.msgmax", "65536", all, true},
		{"sem", "kernel.sem", "250 32000 100 128", all, true},
		{"mqueue", "fs.mqueue.msg_max", "20", all, true},
		{"domain", "kernel.domainname", "example.org", all, false},
		{"sem and more", "kernel.sem_next_id", "1", all, false},
		{"bar", "kernel.shmmax", "|/x", all, false},
		{"empty value", "kernel.shmmax", "", all, true},
		{"user namespaces", "user.max_user_namespaces", "0", all, false},
		{"network of the node", "net.core.somaxconn", "1024", Own{IPC: true}, false},
		{"ipc of the node", "kernel.shmmax", "1", Own{Net: true}, false},
		{"the node's own", "kernel.core_pattern", "x", all, false},
		{"hostname", "kernel.hostname", "x", all, false},
		{"vm", "vm.swappiness", "1", all, false},
		{"fs", "fs.file-max", "1", all, false},
		{"plus", "kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x", all, false},
		{"newline in the value", "net.core.somaxconn", "1\n2", all, false},
		{"newline in the key", "net.core\n.x", "1", all, false},
		{"slashes", "net/core/somaxconn", "1", all, false},
		{"up", "net...core", "1", all, false},
		{"up with slashes", "net.ipv4.../../kernel", "1", all, false},
		{"equals", "net.core=x", "1", all, false},
		{"no dot", "net", "1", all, false},
		{"empty", "", "1", all, false},
		{"trailing dot", "net.core.", "1", all, false},
		{"long value", "net.core.somaxconn", strings.Repeat("1", 257), all, false},
		{"long key", "net." + strings.Repeat("a", 200), "1", all, false},
	} {
		_, err := Check(map[string]string{c.key: c.value}, c.own)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	asked := map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024"}
	got := WithDefaults(asked, Own{Net: true}, 65535)
	if got["net.ipv4.ip_unprivileged_port_start"] != "1024" || got["net.ipv4.ping_group_range"] != "0 65535" || len(asked) != 1 {
		t.Errorf("%v", got)
	}
	if got := WithDefaults(nil, Own{Net: true}, 1<<32-1)["net.ipv4.ping_group_range"]; got != "0 2147483647" {
		t.Errorf("on the node's ids: %q", got)
	}
	if got := WithDefaults(nil, Own{}, 65535); len(got) != 0 {
		t.Errorf("the node's network was touched: %v", got)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("net.core.somaxconn", "1")
	f.Add("kernel.shm+", "1+")
	f.Fuzz(func(t *testing.T, k, v string) {
		out, err := Check(map[string]string{k: v}, Own{Net: true, IPC: true})
		if err != nil {
			return
		}
		for k, v := range out {
			if strings.ContainsAny(k, "/\n+=") || strings.Contains(k, "..") || strings.ContainsAny(v, "\n+|/=") {
				t.Errorf("accepted %q = %q", k, v)
			}
		}
	})
}
