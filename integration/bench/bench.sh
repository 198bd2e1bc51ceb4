#!/bin/bash
# The quick benchmark: ours beside its peers, paired in one run. It needs root and what `make bench-quick` builds.
# ONLY="start logs" measures those sections alone.
#
# All of it happens in mount, network and PID namespaces of its own; its files are in .cache/bench-PID, and what it makes in
# the kernel ends with it, also on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
work=$here/.cache/bench-$$
groups=/runtimed-bench-$$

[ "$(id -u)" = 0 ] || { echo "the benchmark makes namespaces, mounts and cgroups: run it as root" >&2; exit 1; }

clean() {
	code=$?
	trap - EXIT
	local dir leaf
	for dir in $(find /sys/fs/cgroup -maxdepth 3 -type d -path "*$groups" 2>/dev/null || true); do
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
mkdir -p "$work/data"
go build -o "$work/bench" ./integration/bench
gcc -O2 -static -o "$work/probe" integration/bench/probe/probe.c

# The data is bound to a short path that everybody may search, as the demo's is. The shell stays, as the first process: it
# reaps what conmon leaves. A priority over whatever else the machine does holds for both sides.
BENCH_PROBE=$work/probe BENCH_GROUPS=$groups GOROOT=$(go env GOROOT) PATH=$here/bin:$here/.cache/bin:$PATH \
	nice -n -15 unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc bash -euc '
		[ "$(stat -f -c %T "$1")" = overlayfs ] && mount -t tmpfs -o mode=0755 bench /mnt || mount --bind "$1" /mnt
		chmod 755 /mnt
		ip link set lo up
		"$2" || exit 1
		exit 0' bench "$work/data" "$work/bench"
