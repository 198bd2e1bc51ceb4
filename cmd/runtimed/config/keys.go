package config

// Key describes one key of the file.
type Key struct {
	Name    string // full, such as "network.bridge"; registry.* for the tables of registries
	Comment string // sentences for a person, with units and ranges
}

// Section describes a table of the file.
type Section struct {
	Name    string // "" for the top level
	Comment string
	Keys    []Key
}

// Sections is every key that there is, in the order in which they are shown.
var Sections = []Section{
	{Name: "", Keys: []Key{
		{"version", "Version of this format. A file must set it: 1."},
		{"root", "Directory of what must survive a reboot: records of sandboxes and containers, and images. Made with mode 0700. " +
			"One daemon at a time uses it. Its file system needs overlayfs' upper directories, idmapped mounts and xattrs: ext4, xfs or btrfs."},
		{"run", "Directory of what must not survive a reboot: the socket, the lock, namespace pins, mounts. Made with mode 0700. At most 70 " +
			"bytes, because socket paths are limited to 107."},
		{"netns_dir", "Directory where pods' network namespaces are pinned, by sandbox id: where ip-netns(8) and CNI plugins look. Shared with others."},
		{"libexec", "Directory of runtimed-shim, runtimed-monitor, runtimed-init and runtimed-unpack. Empty is the directory of runtimed itself."},
	}},
	{Name: "socket", Comment: "The CRI endpoint, <run>/runtimed.sock, mode 0600.", Keys: []Key{
		{"socket.allowed_uids", "Users whose processes may connect, beside the one that the daemon runs as. Whoever connects is root on this node in all but name."},
	}},
	{Name: "cgroup", Keys: []Key{
		{"cgroup.root", "Group below each hierarchy's mount point that holds all shims, and the pods that name no parent of their own. " +
			"Absolute; not the root itself. Daemons on one machine need different ones. With the driver systemd the groups are slices: " +
			"/runtimed is runtimed-pods.slice and runtimed-shims.slice."},
		{"cgroup.driver", "Who makes the groups: \"cgroupfs\", the daemon; \"systemd\", systemd, as transient slices and scopes (cgroup v2 only); " +
			"\"auto\", systemd where it is process 1 and the node has cgroup v2. The kubelet asks for it and does the same."},
	}},
	{Name: "network", Comment: "The pods' network. All keys but the mode are the built-in network's: one bridge, routed and masqueraded by the node.\nDaemons on one machine need different names and subnets.", Keys: []Key{
		{"network.mode", "\"builtin\", or \"cni\": pods are connected by CNI plugins. Change it only when no pod is there."},
		{"network.bridge", "Name of the bridge, 1 to 15 characters. It is made when it is not there."},
		{"network.subnet", "IPv4 subnet of the pods, in CIDR notation; its first address is the bridge's. Empty: no IPv4."},
		{"network.subnet6", "IPv6 subnet of the pods. Empty: no IPv6."},
		{"network.nft_table", "Name of the nftables tables that hold this daemon's rules; nothing else may be in them."},
		{"network.mtu", "MTU of the pods' links, in bytes, 1280 to 65535. 0 takes that of the default route's link."},
	}},
	{Name: "network.cni", Comment: "CNI plugins, where network.mode is \"cni\"; see docs/cni.md.", Keys: []Key{
		{"network.cni.conf_dir", "Directory of network configurations. The first *.conflist, *.conf or *.json by name is the pods' network. It is watched."},
		{"network.cni.bin_dirs", "Directories of plugins, searched in order. Plugins run as root."},
		{"network.cni.cache_dir", "Directory of what is known of the pods' attachments; it must survive a reboot. Empty: cni in root."},
		{"network.cni.conf_template", "File from which a configuration is made when the cluster has named this node's pod subnets, with containerd's names " +
			"(.PodCIDR, .PodCIDRRanges, .Routes). It is not used while another configuration is in conf_dir. Empty: none."},
		{"network.cni.add_timeout", "Seconds that all plugins of one ADD may take, 1 to 3600. Then they are killed, and the pod has failed."},
		{"network.cni.del_timeout", "Seconds that all plugins of one DEL or GC may take, 1 to 3600. A DEL is repeated until it succeeds."},
		{"network.cni.status_interval", "Seconds after which plugins are asked again whether they are ready, when somebody wants to know; 1 to 3600."},
		{"network.cni.pod_addresses", "Whether a pod's annotations may choose its addresses (the capabilities ips and mac). Whoever makes pods can then take a neighbour's."},
	}},
	{Name: "userns", Comment: "The node's own ids for pods' user namespaces. No user of the node, of another daemon or of the kubelet (which hands\nout from 65536 up) may be among them: first_id to first_id + size × count − 1.", Keys: []Key{
		{"userns.first_id", "First id, a multiple of 65536, at least 134217728 (beyond the kubelet's ranges for 2,000 pods)."},
		{"userns.size", "Ids of each pod, a multiple of 65536."},
		{"userns.count", "How many pods can have a user namespace of the node's at one time."},
	}},
	{Name: "security", Keys: []Key{
		{"security.policy", "\"auto\": a pod is sandboxed further than it asked, unless it needs the host. \"cri\": a pod gets exactly what the " +
			"request says, so no seccomp filter that it does not name; docs/security.md has all differences."},
		{"security.capabilities", "Capabilities of a container that neither adds nor drops any."},
		{"security.seccomp_root", "Directory below which seccomp profiles of the type Localhost must be, such as the kubelet's, " +
			"/var/lib/kubelet/seccomp. Empty: anywhere."},
	}},
	{Name: "cdi", Comment: "Devices of the Container Device Interface. The files may name programs that run on the node as root.", Keys: []Key{
		{"cdi.spec_dirs", "Directories of CDI files; a device in a later one wins. They and the files must be root's, and not be writable by " +
			"others, or no device is given. One that is not there is empty. No directory: no devices."},
	}},
	{Name: "image", Keys: []Key{
		{"image.auth_files", "Files with credentials for registries, in the format of docker's config.json, asked in order when a pull brings none. " +
			"One that is not there is skipped; one that cannot be read refuses the pull."},
		{"image.parallel", "Layers of one pull that are fetched at one time, 1 to 64."},
		{"image.progress_timeout", "Seconds without a byte from a registry after which a pull has failed, 1 to 3600."},
		{"image.max_layer_bytes", "Largest layer, in bytes: of the archive after decompression, and of the files in it."},
		{"image.max_layer_entries", "Most files, directories and links of a layer."},
		{"image.max_layer_ratio", "Largest ratio of decompressed to compressed bytes of a layer, beyond its first 256 MiB."},
		{"image.max_path_depth", "Most components of a path in a layer, 1 to 1000."},
	}},
	{Name: "trust", Keys: []Key{
		{"trust.mode", "Which images may run. Empty refuses every image. \"off\" takes every image unverified, and the daemon says so in its log. " +
			"This release knows no third."},
	}},
	{Name: "streaming", Comment: "Where exec, attach and port-forward sessions of CRI clients are served. The address of a session holds a secret that is good for one\nminute and one use.", Keys: []Key{
		{"streaming.address", "IP address to listen on. One that is not loopback takes TLS and a client CA. The kubelet needs no other than the default."},
		{"streaming.port", "TCP port to listen on, 0 to 65535. 0 takes any that is free."},
		{"streaming.tls_cert", "PEM file of the server's certificate and what leads to its authority. Absolute; empty is HTTP without TLS. Read at the start."},
		{"streaming.tls_key", "PEM file of the certificate's private key. Absolute; needed with tls_cert, and only then. Others than its owner must not be able to read it."},
		{"streaming.client_ca", "PEM file of authorities; who connects must have a certificate of one of them. Absolute; empty asks for none. Needs tls_cert."},
		{"streaming.idle_timeout", "Seconds after which a session that carries nothing in either direction ends, 1 to 604800."},
	}},
	{Name: "log", Comment: "The daemon's own log, on standard error.", Keys: []Key{
		{"log.level", "\"debug\", \"info\", \"warn\" or \"error\". At debug, questions such as List and Status have their lines too."},
		{"log.format", "\"text\" or \"json\"."},
	}},
	{Name: "metrics", Comment: "What the daemon counts of itself, for Prometheus, at /metrics.", Keys: []Key{
		{"metrics.listen", "Where: \"socket\" is the unix socket <run>/metrics.sock, an absolute path is another one, both for the users of " +
			"socket.allowed_uids; \"127.0.0.1:PORT\" or \"[::1]:PORT\" is for everybody on this node; \"off\" is nowhere."},
	}},
	{Name: "tracing", Comment: "Traces of calls and their steps, for OpenTelemetry.", Keys: []Key{
		{"tracing.endpoint", "Collector that takes OTLP over gRPC, HOST:PORT. Empty: no traces."},
		{"tracing.plaintext", "Whether it is spoken to without TLS. Spans hold ids of pods and containers."},
		{"tracing.ca", "PEM file of the authorities that the collector's certificate must come from. Absolute; empty is the system's."},
		{"tracing.per_million", "How many of a million traces that no caller began are sent, 0 to 1000000. A caller's own decision counts for its calls."},
	}},
	{Name: `registry."…"`, Comment: "One table for each registry that is special, by host and port as in a reference:\n[registry.\"docker.io\"], [registry.\"registry.example:5000\"]. All others are spoken to with TLS, directly.", Keys: []Key{
		{"registry.*.mirrors", "Hosts that are asked first, in order, for the same repositories. They never get a pod's credentials. What is special about a mirror goes " +
			"into a table of its own."},
		{"registry.*.plain_http", "Whether HTTP without TLS is used. Registries on loopback addresses may always use it."},
		{"registry.*.ca", "PEM file of authorities that are trusted for this host beside the system's. Absolute; empty is none."},
		{"registry.*.credential_helper", "Program that is asked for credentials (docker-credential-helpers), when no auth file knows the host. Absolute; empty is none."},
	}},
}

// find returns the key of that name, or nil.
func find(name string) *Key {
	for _, s := range Sections {
		for i := range s.Keys {
			if s.Keys[i].Name == name {
				return &s.Keys[i]
			}
		}
	}
	return nil
}
