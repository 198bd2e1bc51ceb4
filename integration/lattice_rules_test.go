package integration

// module is the prefix of everything of ours.
const module = "github.com/runtimed/runtimed/"

// A room is a set of packages and what of ours they may import. Patterns are paths below the module; "/..." at the end
// means the package and all below it. The first room whose pattern fits decides.
type room struct {
	packages string
	may      []string
	because  string
}

// A link is something that a program or package may not contain, however many imports away.
type link struct {
	from    string   // pattern of packages of ours
	never   []string // patterns of full import paths
	because string
}

// An only is a foreign package that few may import directly.
type only struct {
	imported string // pattern of full import paths
	by       []string
	because  string
}

const (
	aLeaf    = "a leaf knows the vocabulary and the step runner, so that it can be read, tested and replaced alone"
	aForm    = "what two processes say to each other is a form that both sides link: it knows nothing but itself"
	pure     = "decisions are pure functions: they know the vocabulary and their own tables"
	jailed   = "a process that holds privileges or parses foreign bytes links the little that it needs"
	chain    = "trust ← registry ← image: what fetches cannot decide what is trusted, and what is trusted cannot fetch"
	contract = "the vocabulary and the step runner are what all rooms share: if they knew a room, every room would"
)

// rooms is the policy. It says who may know whom; nobody edits it to get a build through.
var rooms = []room{
	{"pkg/sandbox/spec", nil, contract},
	{"pkg/sandbox/step", nil, contract},
	{"pkg/sandbox/process", []string{"pkg/sandbox/spec"}, aLeaf},

	{"pkg/sandbox/cgroup", []string{"pkg/sandbox/spec", "pkg/sandbox/step"}, aLeaf},
	{"pkg/sandbox/namespaces/wire", nil, aForm},
	{"pkg/sandbox/namespaces", []string{"pkg/sandbox/spec", "pkg/sandbox/step", "pkg/sandbox/namespaces/wire"}, aLeaf},
	{"pkg/sandbox/network/address", []string{"pkg/sandbox/spec"}, aLeaf},
	{"pkg/sandbox/network/ruleset", []string{"pkg/sandbox/spec", "pkg/sandbox/network/address"}, aLeaf},
	{"pkg/sandbox/network/xtables", nil, aLeaf},
	{"pkg/sandbox/network/cni/plugin", nil, aLeaf},
	{"pkg/sandbox/network/cni/conf", nil, aLeaf},
	{"pkg/sandbox/network/cni", []string{"pkg/sandbox/spec", "pkg/sandbox/step", "pkg/sandbox/network/cni/..."}, aLeaf},
	{"pkg/sandbox/network", []string{"pkg/sandbox/spec", "pkg/sandbox/step", "pkg/sandbox/network/..."}, aLeaf},
	{"pkg/sandbox/forward", nil, aLeaf},
	{"pkg/sandbox/files", []string{"pkg/sandbox/spec", "pkg/sandbox/step"}, aLeaf},
	{"pkg/sandbox/stats", []string{"pkg/sandbox/spec"}, aLeaf},
	{"pkg/sandbox/state", []string{"pkg/sandbox/spec"}, aLeaf},
	{"pkg/sandbox/monitor", nil, aForm},
	{"pkg/sandbox/shim", []string{"pkg/sandbox/spec", "pkg/sandbox/monitor"}, aLeaf},
	{"pkg/sandbox/launch/wire", nil, aForm},
	{"pkg/sandbox/launch", []string{"pkg/sandbox/spec", "pkg/sandbox/process", "pkg/sandbox/shim", "pkg/sandbox/launch/wire"}, aLeaf},
	{"pkg/sandbox/bundle", []string{"pkg/sandbox/spec", "pkg/security/..."},
		"security ← bundle ← sandbox: the bundle writes down what security decided, and asks nobody else"},
	{"pkg/sandbox/leak", []string{"pkg/sandbox/spec", "pkg/sandbox/state", "pkg/sandbox/cgroup", "pkg/sandbox/network", "pkg/sandbox/network/cni"},
		"it holds the records against what the leaves find on the node, and must not believe the Runtime"},
	{"pkg/sandbox", []string{"pkg/sandbox/spec", "pkg/sandbox/step", "pkg/sandbox/state", "pkg/sandbox/bundle", "pkg/sandbox/process", "pkg/security/..."},
		"the Runtime knows records, steps and decisions; the kernel, images and the CRI are behind the interfaces of ports.go, so that every flow can be tested without them"},

	{"pkg/security/seccomp/tag", nil, "it only stops a build"},
	{"pkg/security/apparmor", []string{"pkg/sandbox/spec"}, "it loads one profile of its own, and decides nothing"},
	{"pkg/security/probe", []string{"pkg/security", "pkg/security/apparmor", "pkg/security/capability", "pkg/sandbox/spec"}, "it fills security's Node from the kernel, and decides nothing"},
	{"pkg/security/...", []string{"pkg/sandbox/spec", "pkg/security/..."}, pure},

	{"pkg/filecopy", nil, aForm},

	{"pkg/logs/entry", nil, "the monitor links it: it must stay small"},
	{"pkg/logs/logfile", []string{"pkg/logs/entry"}, "the monitor links it: it must stay small"},
	{"pkg/logs", []string{"pkg/sandbox/spec", "pkg/logs/entry"}, aLeaf},

	{"pkg/image/content", []string{"pkg/sandbox/spec"}, chain},
	{"pkg/image/trust", []string{"pkg/sandbox/spec", "pkg/image/content"}, chain},
	{"pkg/image/registry", []string{"pkg/sandbox/spec", "pkg/image/content", "pkg/image/trust"}, chain},
	{"pkg/image/layer", []string{"pkg/sandbox/spec"}, aLeaf},
	{"pkg/image/rootfs", []string{"pkg/sandbox/spec"}, aLeaf},
	{"pkg/image", []string{"pkg/sandbox/spec", "pkg/sandbox/step", "pkg/image/..."}, "the store knows its own rooms: who borrows a layer is no business of its"},

	{"pkg/cri/translate", []string{"pkg/sandbox/spec"}, "CRI messages become plain data once, and nothing behind the door knows them"},
	{"pkg/cri/control/controlpb", nil, "generated"},
	{"pkg/cri/control", []string{"pkg/sandbox/spec", "pkg/cri/control/controlpb"}, "the door translates, and never decides: it declares the interfaces that it needs"},
	{"pkg/cri/stream", []string{"pkg/sandbox/spec"}, "it carries bytes between clients and a Runtime that it declares, and knows no CRI message"},
	{"pkg/cri/fake", []string{"pkg/sandbox/spec"}, "a stand-in for what is behind the door knows the door's vocabulary alone"},
	{"pkg/cri", []string{"pkg/sandbox/spec", "pkg/cri/translate", "pkg/cri/control/...", "pkg/cri/stream"}, "the door translates, and never decides: it declares the interfaces that it needs"},

	{"cmd/shim/monitor/...", []string{"cmd/shim/monitor/...", "pkg/sandbox/monitor", "pkg/logs/entry", "pkg/logs/logfile"},
		"there is one monitor for each container: every package that it links is paid for as often"},
	{"cmd/shim/...", []string{"cmd/shim", "cmd/shim/bundle", "cmd/shim/creator", "cmd/shim/stage", "pkg/sandbox/spec", "pkg/sandbox/step",
		"pkg/sandbox/process", "pkg/sandbox/launch/wire", "pkg/sandbox/monitor", "pkg/security/seccomp/tag", "pkg/filecopy"},
		"the shim executes blindly: it links nothing that decides, fetches or serves"},
	{"cmd/podinit/...", []string{"cmd/podinit/...", "pkg/sandbox/namespaces/wire"}, jailed},
	{"cmd/unpack/...", []string{"cmd/unpack/...", "pkg/image/layer", "pkg/image/rootfs", "pkg/sandbox/spec"}, jailed},
	{"cmd/runtimed/...", []string{"cmd/runtimed/...", "pkg/..."}, "wiring is in cmd/ alone, and links no other program's inside"},
	{"integration/...", []string{"cmd/...", "pkg/...", "integration/..."}, "tests see everything"},
}

// links is what may not be in a program.
var links = []link{
	{"cmd/shim/monitor/...", []string{"google.golang.org/grpc/...", "net/http", "crypto/tls", "github.com/opencontainers/runc/...", "encoding/json", "fmt"},
		"one monitor stands beside each container for as long as it runs: its size is multiplied by every container of the node"},
	{"pkg/logs/entry", []string{"fmt", "os", "net"}, "the monitor links it"},
	{"pkg/logs/logfile", []string{"fmt", "os", "net"}, "the monitor links it"},
	{"pkg/sandbox/monitor", []string{"fmt", "os", "net", "encoding/json"}, "the monitor links it"},
	{"cmd/podinit/...", []string{"google.golang.org/grpc/...", "net/http", "crypto/tls", "github.com/opencontainers/runc/..."},
		"it runs inside pods: what it does not contain cannot be used against anyone"},
	{"cmd/shim/...", []string{"google.golang.org/grpc/...", "net/http", "archive/tar", "github.com/google/go-containerregistry/..."},
		"the shim speaks to nobody but its launcher and its container"},
	{"cmd/unpack/...", []string{"net/http", "crypto/tls", "google.golang.org/grpc/...", "github.com/google/go-containerregistry/..."},
		"the parser of layers has no network, and no use for one"},
	{"cmd/runtimed/...", []string{"archive/tar", "github.com/sigstore/...", "github.com/notaryproject/...", "github.com/opencontainers/runc/..."},
		"the daemon is privileged: layers and signatures are parsed, and containers made, in processes of their own"},
	{"pkg/...", []string{"archive/tar", "github.com/sigstore/...", "github.com/notaryproject/...", "github.com/opencontainers/runc/..."},
		"the daemon links every package below pkg: layers and signatures are parsed, and containers made, in processes of their own"},
}

// onlys is what few may import.
var onlys = []only{
	{"github.com/opencontainers/runc/...", []string{"cmd/shim", "cmd/shim/bundle", "cmd/shim/creator", "cmd/shim/stage"},
		"libcontainer is the creator's and the exec stage's: whoever links it runs its C constructor before main"},
	{"archive/tar", []string{"cmd/unpack/untar", "integration/..."}, "one parser of layers, in the jailed worker"},
	{"k8s.io/cri-api/...", []string{"pkg/cri", "pkg/cri/translate", "cmd/runtimed/...", "integration/..."},
		"CRI types stop at pkg/cri/translate; the command line is a client"},
	{"k8s.io/streaming/...", []string{"pkg/cri/stream", "integration/..."}, "SPDY and WebSocket are the streaming server's"},
	{"k8s.io/cri-streaming/...", []string{"pkg/cri/stream", "integration/..."}, "SPDY and WebSocket are the streaming server's"},
	{"google.golang.org/grpc/...", []string{"pkg/cri", "pkg/cri/control/...", "cmd/runtimed/...", "integration/..."}, "gRPC is the door's"},
	{"github.com/prometheus/...", []string{"cmd/runtimed/metrics", "integration/..."}, "rooms call hooks; what counts is wired in cmd/"},
	{"go.opentelemetry.io/...", []string{"cmd/runtimed/tracing", "integration/..."}, "rooms tell an observer; what traces is wired in cmd/"},
	{"github.com/google/go-containerregistry/...", []string{"pkg/image/...", "integration/..."}, "registries are pkg/image's"},
	{"github.com/google/nftables/...", []string{"pkg/sandbox/network/...", "cmd/runtimed/...", "integration/..."}, "rules are the network's; doctor reads them"},
	{"github.com/containernetworking/...", []string{"pkg/sandbox/network/cni/...", "integration/..."}, "plugins are the network's"},
	{"tags.cncf.io/container-device-interface/pkg/cdi", []string{"pkg/security/cdi"}, "what a CDI file asks for is checked in one place"},
	{"github.com/seccomp/libseccomp-golang", []string{"pkg/security/seccomp", "cmd/unpack/jail"}, "filters are security's, and the worker's own"},
}
