#!/bin/bash
# A throwaway machine with cgroup v2, AppArmor and fs-verity, and systemd where it is asked for: a user-mode Linux kernel
# (a program of this machine, no KVM) over a Debian disk image. It runs one command as root and ends with its exit code.
#
#   vm.sh build                     make the kernel and the disk image, where they are not in the cache yet
#   vm.sh run [OPTION…] -- COMMAND  run it in this directory, which the machine shares with this one
#       -i systemd|tiny   the machine's PID 1 (tiny: a script that mounts, in 1 s; systemd needs 10)
#       -d FILE           keep the disk's changes in FILE, and begin with those that are in it
#       -t SECONDS        give up after that (600), exit code 124
#       -m MIB            memory (2048)
#       -c CPUS           processors (1: several are young in user-mode Linux)
#   vm.sh clean                     delete the cache
#
# A command that makes the file /vm/job/die has the machine's power cut at that moment: exit code 99. With -d, the next
# run finds the disk as it was then.
#
#   RUNTIMED_VM_KERNEL  a ready user-mode Linux kernel (or one compressed by xz); else one is built from Debian's source,
#                       with what kernel.config asks for, in half an hour
#   RUNTIMED_VM_CACHE   where kernel and image are kept (.cache/vm of the repository)
#   RUNTIMED_VM_SUITE   Debian's suite of the image (trixie)
#   RUNTIMED_VM_CONSOLE file that gets the kernel's console
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
cache=${RUNTIMED_VM_CACHE:-$tree/.cache/vm}
suite=${RUNTIMED_VM_SUITE:-trixie}
kernel_suite=sid # user-mode Linux carries its programs through seccomp since 6.16; trixie has 6.12

packages="systemd-sysv dbus udev kmod apparmor iproute2 iptables nftables conntrack containernetworking-plugins ethtool
 socat ca-certificates busybox-static procps util-linux uidmap jq attr libcap2-bin e2fsprogs xfsprogs fsverity conmon"
build_packages="gcc:gcc make:make flex:flex bison:bison bc:bc xz:xz-utils dpkg-deb:dpkg"

die() { echo "vm: $*" >&2; exit 125; }
say() { echo "vm: $*" >&2; }

# mirror is the one that this machine's apt uses: nothing is written down here.
mirror() {
	apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -m1 . ||
		die "apt names no mirror: run apt-get update"
}

# needs fails with the packages of the programs that are missing, given as program:package.
needs() {
	local n missing=
	for n in "$@"; do command -v "${n%%:*}" >/dev/null || missing+=" ${n#*:}"; done
	[ -z "$missing" ] || die "apt-get install$missing"
}

# ---------------------------------------------------------------- kernel

# kernel prints the path of the kernel, after making it where it has to be made.
kernel() {
	local given=${RUNTIMED_VM_KERNEL:-} made
	case $given in
	*.xz)
		made=$cache/kernel-$(cksum <"$given" | cut -d' ' -f1)
		[ -x "$made" ] || { xz -dc "$given" >"$made.new" && chmod +x "$made.new" && mv "$made.new" "$made"; }
		;;
	?*) made=$given ;;
	*)
		made=$cache/kernel-$kernel_suite-$(cksum <"$here/kernel.config" | cut -d' ' -f1)
		[ -x "$made" ] || build_kernel "$made"
		;;
	esac
	[ -x "$made" ] || die "kernel $made cannot be executed"
	echo "$made"
}

build_kernel() { # TO
	local work=$cache/kernel-build apt package option
	# shellcheck disable=SC2086
	needs $build_packages
	rm -rf "$work" && mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/src"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $kernel_suite main" >"$work/apt/sources.list"
	: >"$work/apt/status"
	apt=(-o "Dir::State=$work/apt" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=root
		-o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -qq)
	say "kernel: Debian's source"
	apt-get "${apt[@]}" update >&2
	package=$(apt-cache "${apt[@]}" depends linux-source | awk '$1 == "Depends:" && /linux-source-/ {print $2; exit}')
	[ -n "$package" ] || die "no linux-source in $kernel_suite"
	(cd "$work" && apt-get "${apt[@]}" download "$package" >&2 && dpkg-deb -x linux-source-*.deb deb)
	tar -C "$work/src" --strip-components=1 -xf "$work"/deb/usr/src/linux-source-*.tar.xz
	say "kernel: configure and compile"
	cd "$work/src"
	make ARCH=um defconfig >/dev/null
	grep -v '^#' "$here/kernel.config" >>.config
	make ARCH=um olddefconfig >/dev/null
	for option in $(grep '=y' "$here/kernel.config"); do
		grep -qx "$option" .config || say "this kernel has no $option"
	done
	nice make ARCH=um -j"$(nproc)" linux >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; die "the kernel did not build"; }
	strip -o "$1.new" linux && mv "$1.new" "$1"
	cd "$tree" && rm -rf "$work"
}

# ---------------------------------------------------------------- disk image

image() {
	local id root
	id=$( (echo "$suite $packages"; cat "$here"/guest/*) | cksum | cut -d' ' -f1)
	[ -s "$cache/disk-$id.img" ] || build_image "$cache/disk-$id.img"
	echo "$cache/disk-$id.img"
}

build_image() { # TO
	local root=$cache/root.new debian=$cache/debian-$suite-$(echo "$packages" | cksum | cut -d' ' -f1).tar
	[ "$(id -u)" = 0 ] || die "the disk image is made by root"
	needs mmdebstrap:mmdebstrap mke2fs:e2fsprogs
	rm -f "$cache"/disk-*.img
	if [ ! -s "$debian" ]; then
		say "image: Debian $suite"
		rm -f "$cache"/debian-*.tar
		# shellcheck disable=SC2086
		mmdebstrap --quiet --mode=root --format=tar --variant=minbase --aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
			--dpkgopt='path-exclude=/usr/share/locale/*' --include="$(echo $packages | tr ' ' ,)" \
			"$suite" "$debian.new" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >&2
		mv "$debian.new" "$debian"
	fi
	say "image: disk"
	rm -rf "$root" && mkdir -p "$root"
	tar -C "$root" -xf "$debian"
	bash "$here/guest/install" "$root" "$here/guest"
	rm -f "$1.new" && truncate -s 6G "$1.new"
	mke2fs -q -t ext4 -b 4096 -O verity -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -m 0 -d "$root" "$1.new"
	mv "$1.new" "$1"
	rm -rf "$root"
}

build() {
	mkdir -p "$cache"
	exec 4>"$cache/lock"
	flock 4
	linux=$(kernel)
	disk=$(image)
	exec 4>&-
}

# ---------------------------------------------------------------- run

run() {
	local init=tiny keep= limit=600 memory=2048 cpus=1 o
	while getopts 'i:d:t:m:c:' o; do case $o in
		i) init=$OPTARG ;; d) keep=$(realpath "$OPTARG") ;; t) limit=$OPTARG ;; m) memory=$OPTARG ;; c) cpus=$OPTARG ;;
		*) die "see the beginning of $0" ;;
		esac; done
	shift $((OPTIND - 1))
	[ "${1:-}" != -- ] || shift
	[ $# -gt 0 ] || die "no command"
	case $init in systemd) init=/sbin/init ;; tiny) init=/vm/init ;; *) die "PID 1 is systemd or tiny" ;; esac
	build
	mkdir -p "$cache/run"
	work=$(mktemp -d "$cache/run/XXXXXX")
	machine=
	trap 'stop; rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	mkdir "$work/job"
	{ printf 'cd %q\n' "$PWD"; printf '%q ' "$@"; echo; } >"$work/job/command"
	mkfifo "$work/out" "$work/err"
	cat "$work/out" & local copies=$!
	cat "$work/err" >&2 & copies+=" $!"
	start "$init" "$memory" "$cpus" "${keep:-$work/changes}"
	local code=0
	await "$limit" || code=$?
	stop
	# shellcheck disable=SC2086
	wait $copies || true
	[ -z "${RUNTIMED_VM_CONSOLE:-}" ] || cp "$work/console" "$RUNTIMED_VM_CONSOLE"
	[ $code != 125 ] || tail -n 40 "$work/console" >&2
	exit $code
}

# start boots the machine in a session of its own: the kernel and the processes that carry its programs.
start() { # INIT MEMORY CPUS CHANGES
	exec 7<>"$work/out" 8<>"$work/err"
	TMPDIR=/dev/shm setsid "$linux" seccomp=on mem="$2M" ncpus="$3" uml_dir="$work/" umid=vm \
		ubd0="$4,$disk" root=/dev/ubda rw rootfstype=ext4 con0=null,fd:2 con=null ssl0=null,fd:7 ssl1=null,fd:8 ssl=null \
		lsm=landlock,yama,apparmor,bpf quiet loglevel=4 panic=-1 systemd.show_status=0 \
		vm.share="$tree" vm.job="$work/job" init="$1" </dev/null >"$work/console" 2>&1 4>&- &
	machine=$!
	exec 7>&- 8>&-
}

await() { # SECONDS
	local end=$((SECONDS + $1))
	while [ "$SECONDS" -lt "$end" ]; do
		[ ! -s "$work/job/code" ] || return "$(cat "$work/job/code")"
		[ ! -e "$work/job/die" ] || return 99
		kill -0 "$machine" 2>/dev/null || { say "the machine ended without a result"; return 125; }
		sleep 0.05
	done
	say "no result after $1 s"
	return 124
}

stop() {
	[ -z "$machine" ] || kill -KILL -- "-$machine" 2>/dev/null || true
	[ -z "$machine" ] || wait "$machine" 2>/dev/null || true
	machine=
}

case ${1:-} in
build) build ;;
run) shift; run "$@" ;;
clean) rm -rf "$cache" ;;
*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
