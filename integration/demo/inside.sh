#!/bin/bash
# What demo.sh shows, in the namespaces that demo.sh made.
set -euo pipefail

# The data is bound to a short path that everybody may search: socket paths are short, and the repository may lie in a
# directory that a pod's root may not enter. Overlayfs cannot have its upper directories on another overlay.
if [ "$(stat -f -c %T "$DEMO_DATA")" = overlayfs ]; then
	mount -t tmpfs -o mode=0755 demo /mnt
else
	mount --bind "$DEMO_DATA" /mnt
	chmod 755 /mnt
fi
cd /mnt
ip link set lo up
image=127.0.0.1:5000/demo/busybox:1
socket=/mnt/run/runtimed.sock
export CRI_CONFIG_FILE=/mnt/crictl.yaml
printf 'runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 30\n' $socket $socket >crictl.yaml
out=/mnt/out

# chapter, show and want are the whole stage: a title; a command and what it prints; what that must have been.
chapter() { printf '\n\033[1m── %s\033[0m\n' "$*"; }
show() {
	printf '\033[36m$ %s\033[0m\n' "$*"
	local code=0
	eval "$*" >"$out" 2>"$out.err" || code=$?
	cat "$out" "$out.err"
	[ "$code" = "${expect:-0}" ] || fail "that ended with $code, not ${expect:-0}"
}
want() { cat "$out" "$out.err" | grep -E -- "$1" >/dev/null || fail "that does not show: $1"; }
never() { ! cat "$out" "$out.err" | grep -E -- "$1" >/dev/null || fail "that must not show: $1"; }
same() { [ "$1" = "$2" ] || fail "$3: \"$1\" is not \"$2\""; }
fail() {
	printf '\033[31mthe demo failed: %s\033[0m\n' "$*" >&2
	[ ! -s /mnt/daemon.log ] || { echo "the last lines of the daemon's log:" >&2; tail -n 15 /mnt/daemon.log >&2; }
	exit 1
}
trap 'fail "line $LINENO of inside.sh"' ERR
trap 'exit 130' INT TERM

# until COMMAND, for ten seconds: for what happens by itself a moment later.
until_true() { for _ in $(seq 200); do if eval "$1"; then return 0; fi; sleep 0.05; done; fail "after 10 s still not: $1"; }

# Every runtimed of the demo reads the demo's configuration.
runtimed() { command runtimed --config /mnt/config.toml "$@"; }

start_daemon() {
	command runtimed --config /mnt/config.toml serve 2>>/mnt/daemon.log &
	daemon=$!
	until_true "crictl version >/dev/null 2>&1 || ! kill -0 $daemon 2>/dev/null"
	kill -0 $daemon 2>/dev/null || fail "the daemon ended"
}

chapter "A registry on loopback, and a daemon with directories, a cgroup and a network of its own"
"$DEMO_REGISTRY" 127.0.0.1:5000 >/mnt/registry.out &
until_true "grep -q '$image' /mnt/registry.out"
cat >config.toml <<END
version = 1
root = "/mnt/root"
run = "/mnt/run"
netns_dir = "/mnt/netns"

[cgroup]
root = "$DEMO_GROUPS/runtimed"

[network]
bridge = "demo0"
nft_table = "demo"

# The demo's image is signed by nobody. Without this key every image is refused.
[trust]
mode = "off"

[registry."127.0.0.1:5000"]
plain_http = true
END
show "runtimed config check"
start_daemon
show "grep -h trust daemon.log"
want 'trust.mode is off'

# pattern turns expected lines into a regular expression: "…" stands for anything.
pattern() { sed 's/[][\.*^$+?(){}|/]/\\&/g; s/ \?… \?/.*/g'; }

# replay runs the commands ("# …") of a transcript, and compares what they print with the lines below each.
replay() {
	local line command='' expected=''
	while IFS= read -r line; do
		if [[ $line == '# '* ]]; then
			settle
			command=${line#\# } expected=''
		else
			expected+=$line$'\n'
		fi
	done
	settle
}
settle() {
	[ -n "$command" ] || return 0
	show "$command" </dev/null
	local want got
	want=$(pattern <<<"${expected%$'\n'}")
	got=$(cat "$out")
	[[ $got =~ ^$want$ ]] || fail "README.md says: ${expected%$'\n'}"
}

chapter "The README's session"
replay < <(sed -n '/<!-- session -->/,/<!-- end of session -->/p' "$DEMO_README" | sed '/^<!--/d; /^```/d')

chapter "A pod through the CRI, as a kubelet does it (crictl)"
mkdir -p logs
cat >pod.json <<END
{"metadata": {"name": "demo", "namespace": "default", "uid": "1", "attempt": 0}, "hostname": "demo",
 "log_directory": "/mnt/logs", "linux": {"cgroup_parent": "$DEMO_GROUPS/kubelet"}}
END
# container NAME COMMAND…: a request with limits, in NAME.json
container() {
	jq -n --arg name "$1" --arg image "$image" --arg script "$2" '{metadata: {name: $name}, image: {image: $image},
	  log_path: "\($name).log", command: ["/bin/sh", "-c", $script], linux: {resources: {
	  memory_limit_in_bytes: 67108864, cpu_period: 100000, cpu_quota: 50000, unified: {"pids.max": "64"}}}}' >"$1.json"
}
container shell 'echo hello from $(hostname); while :; do i=$((i+1)); echo tick $i; sleep 0.1; done'
show "crictl pull $image"
want 'Image is up to date'
show "crictl runp pod.json"
pod=$(cat $out)
show "crictl create ${pod:0:13} shell.json pod.json"
ctr=$(cut -c1-13 $out)
show "crictl start $ctr"
show "crictl pods"
want 'Ready +demo'
show "crictl ps"
want 'Running +shell'
until_true "crictl logs $ctr 2>/dev/null | grep 'tick 2' >/dev/null"
show "crictl logs $ctr | head -n 3"
want 'hello from demo'

chapter "Sandboxed, although nobody asked for it"
show "crictl exec -s $ctr cat /proc/self/uid_map"
want '^ +0 +1[0-9]{9} +65536'
show "crictl exec -s $ctr grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status"
want '^Seccomp:\s+2'
show "crictl exec -s $ctr ls -ld /bin/busybox /tmp"
want ' root +root .*/bin/busybox'
expect=1 show "crictl exec -s $ctr unshare -U true"
want 'Operation not permitted'
expect=1 show "crictl exec -s $ctr cat /proc/kcore"
show "crictl exec -s $ctr ip -o addr show eth0"
want 'inet 10\.63\.0\.[0-9]+/16'
address=$(awk '$3 == "inet" {sub("/.*", "", $4); print $4}' $out)
show "crictl exec -s $ctr cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start"
want "^0$"

chapter "Its limits, as the kernel has them"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	limits="/sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max" cpu='50000 100000'
else
	limits="/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max" cpu=50000
fi
show "crictl exec -s $ctr cat $limits"
want '^67108864$'
want "^$cpu\$"
want '^64$'

chapter "Its log, as it grows"
expect=124 show "timeout 2 crictl logs -f --tail 1 $ctr"
want 'tick'
[ "$(grep -c tick $out)" -ge 3 ] || fail "the log does not grow"
show "tail -n 2 logs/shell.log"
want '^2[0-9-]+T[0-9:.]+Z stdout F tick'

chapter "The daemon is killed, and is missed by nobody"
container errand 'sleep 1; echo done; exit 3'
errand=$(crictl create "$pod" errand.json pod.json)
crictl start "$errand" >/dev/null
before=$(crictl inspect "$ctr" | jq .info.pid)
show "kill -9 $daemon"
wait $daemon 2>/dev/null || true
expect=1 show "crictl ps"
ticks=$(grep -c tick logs/shell.log)
sleep 2
[ "$(grep -c tick logs/shell.log)" -gt "$ticks" ] || fail "the container stopped writing its log"
start_daemon
until_true "crictl ps -a | grep 'Exited.*errand' >/dev/null"
show "crictl ps -a"
want 'Running +shell'
want 'Exited +errand'
show "crictl inspect ${errand:0:13} | jq -c '.status | {state, exitCode, reason}'"
want '"exitCode":3,'
same "$(crictl inspect "$ctr" | jq .info.pid)" "$before" "the container has another process"
show "crictl exec -s $ctr echo as before"
show "awk '\$4 == \"tick\" && \$5 != ++n {bad = 1} END {print n \" ticks\", bad ? \"with gaps\" : \"without a gap\"}' logs/shell.log"
want 'ticks without a gap'

chapter "A container that takes more memory than it may"
container hog 'echo taking 200 MB; exec dd if=/dev/zero of=/dev/null bs=200M'
hog=$(crictl create "$pod" hog.json pod.json)
show "crictl start ${hog:0:13}"
until_true "crictl inspect $hog | jq -e '.status.state == \"CONTAINER_EXITED\"' >/dev/null"
show "crictl inspect ${hog:0:13} | jq -c '.status | {state, exitCode, reason}'"
want '"exitCode":137,"reason":"OOMKilled"'
show "crictl ps"
want 'Running +shell'

chapter "Everything is taken down"
show "crictl stop -t 1 $ctr"
show "crictl rm $ctr ${errand:0:13} ${hog:0:13}"
show "crictl stopp ${pod:0:13}"
show "crictl rmp ${pod:0:13}"
show "crictl rmi $image"
show "crictl pods -q; crictl ps -a -q; crictl images -q"
same "$(cat $out)" "" "not everything is gone"

chapter "Nothing is left"
show "runtimed doctor --leaks"
# An independent look at the same, with other programs.
show "ps -e -o comm= | grep '^runtimed-' || echo no process"
want '^no process$'
show "ip -o link show type veth; grep ${pod:0:13} /proc/self/mountinfo || echo no link, no mount"
same "$(cat $out)" "no link, no mount" "the pod's network or mounts are left"
show "nft list ruleset | grep $address || echo no rule"
same "$(cat $out)" "no rule" "the pod's rules are left"
show "find /mnt/netns /mnt/root/sandboxes /mnt/run/rootfs /mnt/root/images/layers -mindepth 1; echo no file"
same "$(cat $out)" "no file" "files are left"
show "find /sys/fs/cgroup -maxdepth 5 -path '*$DEMO_GROUPS/*' -name '*${pod:0:13}*'; echo no group"
same "$(cat $out)" "no group" "groups are left"

chapter "The daemon leaves when it is told to"
show "kill $daemon"
wait $daemon || fail "the daemon ended with $?"
printf '\n\033[32mAll of it was as it should be.\033[0m\n'
