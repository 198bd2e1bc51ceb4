#!/bin/bash
# Builds what runs in the test machine into .cache/vm/bin: the programs, static, the daemon that dies by a plan, and test binaries. A machine without a
# compiler takes the programs from there (RUNTIMED_TEST_BIN).
#   build.sh [PACKAGE…]   with the test binaries of these packages, such as pkg/sandbox/cgroup
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOFLAGS=${GOFLAGS:--tags=seccomp,netgo,osusergo}
bin=$PWD/.cache/vm/bin
mkdir -p "$bin"
make -s build BIN="$bin"
make -s .cache/bin/crictl
cp -f .cache/bin/crictl "$bin/"
CGO_ENABLED=0 go build -trimpath -o "$bin/probe" ./integration/e2e/probe
CGO_ENABLED=1 go build -trimpath -buildvcs=false -ldflags '-linkmode external -extldflags "-static"' -o "$bin/daemon" ./integration/killmain/daemon 2> >(grep -v 'warning: Using\|in function' >&2)
make -s -o build install BIN="$bin" DESTDIR="$PWD/.cache/vm/install" PREFIX=/usr
cp -f .cache/bin/crictl "$PWD/.cache/vm/install/usr/bin/"
for package in "$@"; do
	CGO_ENABLED=1 go test -c -ldflags '-linkmode external -extldflags "-static"' -o "$bin/${package//\//-}.test" "./$package" 2> >(grep -v 'warning: Using\|in function' >&2)
done
