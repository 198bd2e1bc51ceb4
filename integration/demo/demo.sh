#!/bin/bash
# The demo: one pod from a registry to its removal, line by line. It needs root and the programs in bin/ (make demo
# builds them), and ends with 0 only when everything that it shows is as it says.
#
# All of it happens in mount, network and PID namespaces of its own; its files are in .cache/demo-PID, and what it makes in the
# kernel ends with it, also on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
work=$here/.cache/demo-$$
groups=/runtimed-demo-$$

[ "$(id -u)" = 0 ] || { echo "the demo makes namespaces, mounts and cgroups: run it as root" >&2; exit 1; }

# Every hierarchy's directory of the demo's cgroups that is there.
cgroups() { find /sys/fs/cgroup -maxdepth 3 -type d -path "*$groups" 2>/dev/null || true; }

clean() {
	code=$?
	trap - EXIT
	local dir leaf
	for dir in $(cgroups); do
		# Whatever a broken-off demo left in them ended with the PID namespace; the groups are removed leaves first.
		find "$dir" -depth -type d 2>/dev/null | while read -r leaf; do
			for _ in 1 2 3 4 5 6 7 8 9 10; do rmdir "$leaf" 2>/dev/null && break; sleep 0.1; done
		done
		[ ! -d "$dir" ] || { echo "left behind: $dir" >&2; code=1; }
	done
	rm -rf "$work"
	exit "$code"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rm -rf "$work"
mkdir -p "$work/bin"
go build -o "$work/bin/registry" ./integration/demo/registry
mkdir -p "$work/data"

# The kernel kills everything in the PID namespace when its first process ends.
DEMO_README=$here/README.md DEMO_DATA=$work/data DEMO_GROUPS=$groups DEMO_REGISTRY=$work/bin/registry PATH=$here/bin:$here/.cache/bin:$PATH \
	unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc bash integration/demo/inside.sh
