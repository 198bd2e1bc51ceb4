#!/bin/bash
# Everything that needs the test machine, in boots of its own: make vm-test. The results are written to docs/vm-test.md.
#   test.sh              the whole
#   test.sh quick        what CI has time for: the drivers' own tests, and one boot under systemd
#   test.sh only REGEXP  the parts with such a name; the results stay in .cache/vm
# A part has failed when its boot ends otherwise than it must, prints no test, skips one, or has none of a kind it names.
set -uo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD bin=$PWD/.cache/vm/bin which=${1:-} only=${2:-.}
export RUNTIMED_VM=1
slow=RUNTIMED_TEST_SLOWNESS=5 # one processor, whose system calls go through seccomp
integration/vm/build.sh integration/vm/inside pkg/sandbox/cgroup integration/e2e integration/resources integration/stats || exit 1
integration/vm/vm.sh build || exit 1
results=$tree/.cache/vm/results.md
: >"$results"
failed=0

# part NAME CODE TESTS BOOT-OPTIONS -- COMMAND: one boot, that must end with the code. TESTS (A|B|…) are beginnings of
# names, each of a test that must have passed, or with CODE 99, where the machine is cut off, have begun.
part() {
	local name=$1 want=$2 tests=$3 begin=$SECONDS out=$tree/.cache/vm/out code test word=PASS wrong=
	[[ $name =~ $only ]] || return 0
	shift 3
	echo "== $name" >&2
	"$tree/integration/vm/vm.sh" run "$@" >"$out" 2>&1
	code=$?
	[ "$code" = "$want" ] || wrong="code $code"
	[ "$want" = 0 ] || word=RUN
	for test in ${tests//|/ }; do
		grep -q "^ *\(---\|===\) $word:\? *$test" "$out" || wrong+=" no $test"
	done
	! grep -q '^ *--- SKIP' "$out" || wrong+=" a test was skipped"
	[ -z "$wrong" ] || { wrong="**failed**: ${wrong# }"; cp "$out" "$out-failed-$SECONDS"; cat "$out" >&2; failed=1; }
	echo "| $name | ${wrong:-passed} | $(grep -c '^ *--- PASS' "$out") | $((SECONDS - begin)) |" >>"$results"
}

# The shared directory cannot be idmapped: what is mounted into pods is the machine's own copy.
copied="cp -a $bin /var/bin && export RUNTIMED_TEST_BIN=/var/bin $slow"

# daemons INIT PACKAGE TESTS runs tests of whole daemons. systemd is asked by process numbers, which must be the machine's.
daemons() {
	local own= driver=cgroupfs
	[ "$1" = tiny ] || { own=RUNTIMED_TEST_HOST_PIDS=1 driver=systemd; }
	pushd "integration/$2" >/dev/null &&
		part "whole daemons ($2), driver $driver" 0 "$3" -i "$1" -t 1500 -- bash -c "$copied && $own $bin/integration-$2.test -test.v -test.run '$3'"
	popd >/dev/null || exit 1
}

inside() { # NAME INIT TESTS
	part "$1" 0 "$3" -i "$2" -t 600 -- bash -c "$copied && $bin/integration-vm-inside.test -test.v -test.run '$3'"
}

part "groups on cgroup v2" 0 'TestUseOfAGroup|Test' -c 2 -t 600 -- "$bin/pkg-sandbox-cgroup.test" -test.v
part "the service: make install, systemd, watchdog" 0 TestService -i systemd -t 600 -- bash -c "cp -a $tree/.cache/vm/install/. / && systemctl daemon-reload &&
	RUNTIMED_TEST_BIN=$bin $bin/integration-vm-inside.test -test.v -test.run TestService"
if [ "$which" != quick ]; then
	inside "AppArmor; a full disk" tiny 'TestAppArmor|TestDiskFull'
	inside "slices and scopes; AppArmor, driver systemd" systemd 'TestSystemd|TestAppArmor'
	daemons tiny resources 'TestCreated|TestUpdate|TestRefused|TestKilledInAnUpdate'
	daemons systemd resources 'TestCreated|TestUpdate|TestRefused|TestKilledInAnUpdate'
	daemons tiny stats 'TestWhatAContainer|TestWhatAPod|TestLists|TestStoppedShims'
	daemons tiny e2e 'TestInside|TestOOM|TestExitCodes|TestNetwork|TestPods|TestImage|TestKilled|TestStoppedShim|TestLog'
	daemons systemd e2e 'TestInside|TestOOM|TestExitCodes|TestPods|TestImage|TestKilled|TestStoppedShim|TestManyAtOnce'
	disk=$tree/.cache/vm/power.disk said=$tree/.cache/vm/power.said
	rm -f "$disk" "$said"
	for boot in 1 2 3 4 5; do
		code=99 cut=yes; [ $boot != 5 ] || code=0 cut=no
		part "power cut, boot $boot" $code TestPower -d "$disk" -t 300 -- env RUNTIMED_VM_CUT=$cut RUNTIMED_VM_SAID="$said" RUNTIMED_TEST_BIN="$bin" \
			"$bin/integration-vm-inside.test" -test.v -test.run TestPower
	done
	rm -f "$disk" "$said"
fi
[ -s "$results" ] || { echo "no part has a name like $only" >&2; exit 1; }
if [ -z "$which" ]; then
	{
		printf '# The test machine'\''s last result\n\n`make vm-test` wrote this: each line is a boot of its own (`integration/vm`).\n\n'
		echo "Commit $(git rev-parse --short HEAD), $(date -u +%F), kernel $(integration/vm/vm.sh run -- uname -r) (user-mode Linux), one processor (the groups: two), 2 GiB; host: $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)."
		printf '\n| part | result | tests and subtests that passed | seconds |\n|---|---|--:|--:|\n'
		cat "$results"
	} >docs/vm-test.md
fi
cat "$results"
exit $failed
