#!/bin/bash
# Builds critest, from the same module as crictl: build.sh FILE
#
# It is a test binary, and the digest of a public image is compiled into it. That image cannot be made here, so a copy of
# the module gets the digest of one that can be (integration/conformance/image). What the copy needs is what the module's
# own go.sum says, and the module itself is checked against crictl's.
set -euo pipefail
cd "$(dirname "$0")/../../.."
to=$(realpath -m "$1")
digest=$(go run ./integration/conformance digest)
module=$(cd integration/tools/crictl && GOFLAGS='' go mod download -json sigs.k8s.io/cri-tools)
version=$(jq -r .Version <<<"$module")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$(jq -r .Dir <<<"$module")/." "$scratch"
chmod -R u+w "$scratch"
cd "$scratch"
file=pkg/validate/consts.go
[ "$(grep -c '"test-image-digest@sha256:' $file)" = 1 ] || { echo "critest $version names no digest in $file, or several" >&2; exit 1; }
sed -i "s/\"test-image-digest@sha256:[0-9a-f]*\"/\"test-image-digest@$digest\"/" $file
CGO_ENABLED=0 GOFLAGS='' go test -c -trimpath -ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$version" -o "$to" ./cmd/critest
