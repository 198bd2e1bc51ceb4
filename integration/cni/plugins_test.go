package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/integration/daemontest"
)

const bridge = `{"cniVersion":%q,"name":"bridged","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.89.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}%s},
 {"type":"bandwidth","capabilities":{"bandwidth":true}}]}`

// TestRealPlugins: Debian's, which are of specification 1.0, and today's of 1.1 with STATUS and GC. A pod has a user
// namespace of its own, an address, a host port and a bandwidth, also for a daemon that was killed and started again.
func TestRealPlugins(t *testing.T) {
	for name, c := range map[string]struct{ dir, version, portmap string }{
		"Debian's": {debian, "1.0.0", ""},
		"today's":  {current(t), "1.1.0", `,"backend":"nftables"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { sh(t, "", "ip link del cni0 || true; nft flush ruleset") })
			n := start(t, options{plugins: c.dir, files: map[string]string{"10-bridged.conflist": fmt.Sprintf(bridge, c.version, c.portmap)}})
			n.ready()
			n.Pull()
			server, sctr := n.pod("server", web, func(p *v1.PodSandboxConfig) {
				p.PortMappings = []*v1.PortMapping{{Protocol: v1.Protocol_TCP, HostPort: 8089, ContainerPort: 80}}
				p.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M"}
			})
			_, client := n.pod("client", daemontest.Sleep, nil)
			address := n.address(server)
			if !strings.HasPrefix(address, "10.89.0.") {
				t.Fatalf("the server is %q", address)
			}
			if ids := n.Exec(sctr, "cat /proc/self/uid_map"); strings.Fields(ids)[1] == "0" {
				t.Errorf("the pod has the node's users: %s", ids)
			}
			if out := n.Exec(sctr, "ip addr show eth0"); !strings.Contains(out, address+"/24") {
				t.Errorf("eth0 is %s", out)
			}
			if out := sh(t, "", "tc qdisc show"); !strings.Contains(out, "rate 10Mbit") {
				t.Errorf("no bandwidth in %s", out)
			}
			reached := func(when string) {
				t.Helper()
				for _, url := range []string{"http://" + address, "http://10.89.0.1:8089"} {
					daemontest.Eventually(t, daemontest.Patience, func() error {
						r, err := n.Conn().Runtime.ExecSync(daemontest.Ctx(t), &v1.ExecSyncRequest{ContainerId: client, Timeout: 10, Cmd: []string{"wget", "-qO-", url + "/hostname"}})
						if err == nil && strings.TrimSpace(string(r.Stdout)) != "server" {
							err = fmt.Errorf("%s: %s is not reached: %s", when, url, r.Stderr)
						}
						return err
					})
				}
			}
			reached("at first")
			n.Kill9()
			n.Restart()
			reached("with another daemon")
			// Debian's portmap and bandwidth are wrong about good pods in CHECK.
			if out := n.CLI("doctor"); c.dir != debian && !strings.Contains(out.Stdout, "CNI plugins, configured in") {
				t.Errorf("doctor: %s%s", out.Stdout, out.Stderr)
			}
			n.RemoveAll()
			n.nothingLeft()
			b, _ := os.ReadFile(n.LogFile)
			if c.dir != debian && strings.Contains(string(b), "a CHECK finds") {
				t.Errorf("the log says that a pod is not connected")
			}
			for _, not := range []string{"could not collect garbage", "takes what the pod asks for"} {
				if strings.Contains(string(b), not) {
					t.Errorf("the log says: %s", not)
				}
			}
		})
	}
}

// TestNetworkReadyNamesWhatIsWrong, through the CRI; and a pod on the node's network needs no plugin.
func TestNetworkReadyNamesWhatIsWrong(t *testing.T) {
	n := start(t, options{plugins: debian})
	n.condition(false, "no network configuration", n.conf)
	n.put("10-x.conflist", `{"name":`)
	n.condition(false, n.conf, "10-x.conflist", "unexpected end of JSON input")
	n.put("10-x.conflist", `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"nowhere"}]}`)
	n.condition(false, "10-x.conflist", `"nowhere"`, n.bin)
	n.Pull()
	p := n.PodConfig("refused")
	_, err := n.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: p})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("RunPodSandbox: %v", err)
	}
	n.pod("host", daemontest.Sleep, func(p *v1.PodSandboxConfig) {
		p.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_NODE
	})
	n.put("10-x.conflist", `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"ptp","ipam":{"type":"host-local","ranges":[[{"subnet":"10.87.0.0/24"}]]}}]}`)
	n.ready()
	pod, _ := n.pod("good", daemontest.Sleep, nil)
	if a := n.address(pod); !strings.HasPrefix(a, "10.87.0.") {
		t.Errorf("the pod is %s", a)
	}
	sctp := n.PodConfig("sctp")
	sctp.PortMappings = []*v1.PortMapping{{Protocol: v1.Protocol_SCTP, HostPort: 90, ContainerPort: 90}}
	if protocols, _ := os.ReadFile("/proc/net/protocols"); !strings.Contains(string(protocols), "SCTP") {
		_, err := n.Conn().Runtime.RunPodSandbox(daemontest.Ctx(t), &v1.RunPodSandboxRequest{Config: sctp})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "this kernel has no SCTP") {
			t.Errorf("an SCTP host port: %v", err)
		}
	}
	n.RemoveAll()
	n.nothingLeft()
	if _, err := os.Stat(filepath.Join(n.Layout.Root, "cni")); err != nil {
		t.Error(err)
	}
}
