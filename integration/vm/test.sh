#!/bin/bash
# Everything that needs the test machine, in boots of its own: make vm-test. The results are written to docs/vm-test.md.
#   test.sh [quick]   quick is what CI has time for: the drivers' own tests, and one boot under systemd
set -uo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD bin=$PWD/.cache/vm/bin quick=${1:-}
export RUNTIMED_VM=1
integration/vm/build.sh integration/vm/inside pkg/sandbox/cgroup integration/e2e integration/resources integration/stats || exit 1
integration/vm/vm.sh build || exit 1
results=$tree/.cache/vm/results.md
: >"$results"
failed=0

# part NAME CODE BOOT-OPTIONS -- COMMAND: one boot, that must end with the code.
part() {
	local name=$1 want=$2 begin=$SECONDS code tests
	shift 2
	echo "== $name" >&2
	"$tree/integration/vm/vm.sh" run "$@" >"$tree/.cache/vm/out" 2>&1
	code=$?
	tests=$(grep -c '^ *--- PASS' "$tree/.cache/vm/out")
	if [ $code = "$want" ]; then
		echo "| $name | passed | $tests | $((SECONDS - begin)) |" >>"$results"
	else
		echo "| $name | **failed**: code $code | $tests | $((SECONDS - begin)) |" >>"$results"
		cat "$tree/.cache/vm/out" >&2
		failed=1
	fi
}

# The shared directory cannot be idmapped: what is mounted into pods is the machine's own copy.
copied="cp -a $bin /var/bin && export RUNTIMED_TEST_BIN=/var/bin"

# daemons INIT PACKAGE REGEXP runs tests of whole daemons. systemd is asked by process numbers, which must be the machine's.
daemons() {
	local own= driver=cgroupfs
	[ "$1" = tiny ] || { own=RUNTIMED_TEST_HOST_PIDS=1 driver=systemd; }
	pushd "integration/$2" >/dev/null &&
		part "whole daemons ($2), driver $driver" 0 -i "$1" -t 1500 -- bash -c "$copied && $own $bin/integration-$2.test -test.v -test.run '$3'"
	popd >/dev/null || exit 1
}

inside() { # NAME INIT TESTS
	part "$1" 0 -i "$2" -t 600 -- bash -c "$copied && $bin/integration-vm-inside.test -test.v -test.run '$3'"
}

# Left out: user-mode Linux counts user and system time in ticks, so two readings of a short process differ.
part "groups on cgroup v2" 0 -c 2 -t 600 -- "$bin/pkg-sandbox-cgroup.test" -test.v -test.skip TestUseOfAGroup
part "the service: make install, systemd, watchdog" 0 -i systemd -t 600 -- bash -c "cp -a $tree/.cache/vm/install/. / && systemctl daemon-reload &&
	RUNTIMED_TEST_BIN=$bin $bin/integration-vm-inside.test -test.v -test.run TestService"
if [ "$quick" != quick ]; then
	inside "AppArmor; a full disk" tiny 'TestAppArmor|TestDiskFull'
	inside "slices and scopes; AppArmor, driver systemd" systemd 'TestSystemd|TestAppArmor'
	daemons tiny resources 'TestCreated|TestUpdate|TestRefused'
	daemons systemd resources 'TestCreated|TestUpdate|TestRefused'
	daemons tiny stats 'TestWhat|TestLists|TestStoppedShims'
	daemons tiny e2e 'TestInside|TestOOM|TestExitCodes|TestNetwork|TestPods|TestImage|TestKilled|TestLog'
	daemons systemd e2e 'TestInside|TestOOM|TestExitCodes|TestPods|TestImage|TestKilled'
	disk=$tree/.cache/vm/power.disk said=$tree/.cache/vm/power.said
	rm -f "$disk" "$said"
	for boot in 1 2 3 4 5; do
		code=99 cut=yes; [ $boot != 5 ] || code=0 cut=no
		part "power cut, boot $boot" $code -d "$disk" -t 300 -- env RUNTIMED_VM_CUT=$cut RUNTIMED_VM_SAID="$said" RUNTIMED_TEST_BIN="$bin" \
			"$bin/integration-vm-inside.test" -test.v -test.run TestPower
	done
	rm -f "$disk" "$said"
	{
		printf '# The test machine'\''s last result\n\n`make vm-test` wrote this: each line is a boot of its own (`integration/vm`).\n\n'
		echo "Commit $(git rev-parse --short HEAD), $(date -u +%F), kernel $(integration/vm/vm.sh run -- uname -r) (user-mode Linux), one processor, 2 GiB; host: $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)."
		printf '\n| part | result | tests and subtests that passed | seconds |\n|---|---|--:|--:|\n'
		cat "$results"
	} >docs/vm-test.md
fi
cat "$results"
exit $failed
