# Without the tag seccomp, libcontainer would leave out every filter, silently: such a build does not compile (`make lint`
# proves it). netgo and osusergo keep the C library's resolver and user database out of static programs.
export GOFLAGS := -tags=seccomp,netgo,osusergo
# The toolchain is this machine's or the one that go.mod names, never an older one.
export GOTOOLCHAIN ?= auto

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := bin
CACHE := .cache
VERSION ?= 0.1.0-dev
PACKAGES := ./...
FUZZTIME ?= 60s
# Two packages at a time: each uses namespaces, cgroups and mounts of its own, but the cores are shared.
TESTFLAGS ?= -race -count=1 -p 2 -timeout 20m

LDFLAGS := -s -w -X main.version=$(VERSION)
# Static: a program that is executed inside a container's mount namespace must not need a library from there.
STATIC := -trimpath -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static"'
LEAN := -trimpath -ldflags '$(LDFLAGS)'

# Programs and the Debian packages that have them. conmon is the peer of the log path's benchmark and tests.
NEEDS := gcc:gcc pkg-config:pkg-config make:make git:git busybox:busybox-static nft:nftables iptables:iptables ip:iproute2 \
	ps:procps conmon:conmon unshare:util-linux ipcmk:util-linux script:bsdutils jq:jq

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## install the Debian packages that are missing, and check the Go toolchain (root)
	@missing=; for need in $(NEEDS); do command -v "$${need%%:*}" >/dev/null || missing+=" $${need#*:}"; done; \
	[ -e /usr/include/seccomp.h ] || missing+=" libseccomp-dev"; \
	[ -e /usr/include/stdlib.h ] || missing+=" libc6-dev"; \
	[ -e /usr/lib/cni/bridge ] || missing+=" containernetworking-plugins"; \
	[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=" ca-certificates"; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -q && apt-get install -y -q --no-install-recommends $$missing </dev/null; \
	fi
	@command -v go >/dev/null || { echo "Go is missing: install $$(awk '$$1 == "go" {print $$2}' go.mod) or newer from https://go.dev/dl" >&2; exit 1; }
	@go version
	@! ldd "$$(command -v busybox)" >/dev/null 2>&1 || { echo "busybox is not static: install busybox-static" >&2; exit 1; }

.PHONY: build
build: ## the five programs, static, into bin/
	CGO_ENABLED=1 go build $(STATIC) -o $(BIN)/runtimed ./cmd/runtimed
	CGO_ENABLED=1 go build $(STATIC) -o $(BIN)/runtimed-shim ./cmd/shim
	CGO_ENABLED=1 go build $(STATIC) -o $(BIN)/runtimed-unpack ./cmd/unpack
	CGO_ENABLED=0 go build $(LEAN) -o $(BIN)/runtimed-monitor ./cmd/shim/monitor
	CGO_ENABLED=0 go build $(LEAN) -o $(BIN)/runtimed-init ./cmd/podinit

.PHONY: test
test: $(CACHE)/bin/crictl $(CACHE)/bin/cni/bridge ## every test, as root, under the race detector
	@[ "$$(id -u)" = 0 ] || { echo "the tests make namespaces, mounts and cgroups: run them as root" >&2; exit 1; }
	cd integration/applydiff && go test $(filter-out -race,$(TESTFLAGS)) ./... # only the peer would be watched for races
	go test $(TESTFLAGS) $(PACKAGES)

.PHONY: sessions-test
sessions-test: ## 1,000 sessions of each kind, broken off at any moment, leave nothing (root, 3 minutes)
	RUNTIMED_TEST_SESSIONS=1000 go test -v -count=1 ./integration/sessions

.PHONY: lint
lint: $(CACHE)/bin/staticcheck ## gofmt, vet, staticcheck, and that a build without seccomp is refused
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | while read -r f; do [ -e "$$f" ] && echo "$$f"; done | xargs gofmt -l); \
	[ -z "$$unformatted" ] || { echo "gofmt -w wants to change:" $$unformatted >&2; exit 1; }
	go vet $(PACKAGES)
	cd integration/applydiff && go vet ./...
	$(CACHE)/bin/staticcheck $(PACKAGES)
	@for program in ./cmd/runtimed ./cmd/shim; do for how in GOFLAGS= CGO_ENABLED=0; do \
		said=$$(env $$how go build -o /dev/null $$program 2>&1 || true); \
		grep -qE 'build_with_tags_seccomp_and_cgo|theBuildTagSeccompIsMissing|constraints exclude all Go files.*nsenter' <<<"$$said" || \
		{ echo "$$program is not refused for its filters when built with $$how:" "$$said" >&2; exit 1; }; \
	done; done
	@echo "lint: nothing found"

# Tools are modules of their own, so that what they need is not what the product needs. Building staticcheck takes minutes.
$(CACHE)/bin/staticcheck: integration/tools/lint/go.mod integration/tools/lint/go.sum
	@mkdir -p $(CACHE)/bin
	cd integration/tools/lint && CGO_ENABLED=0 go build -trimpath -o ../../../$@ honnef.co/go/tools/cmd/staticcheck

$(CACHE)/bin/crictl: integration/tools/crictl/go.mod integration/tools/crictl/go.sum
	@mkdir -p $(CACHE)/bin
	cd integration/tools/crictl && CGO_ENABLED=0 GOFLAGS= go build -trimpath \
		-ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$$(awk '$$1 == "require" && $$2 == "sigs.k8s.io/cri-tools" {print $$3} $$1 == "sigs.k8s.io/cri-tools" {print $$2}' go.mod | head -1)" \
		-o ../../../$@ sigs.k8s.io/cri-tools/cmd/crictl

$(CACHE)/bin/critest: integration/tools/crictl/go.mod integration/tools/crictl/go.sum integration/tools/critest/build.sh integration/conformance/image/images.go
	@mkdir -p $(CACHE)/bin
	bash integration/tools/critest/build.sh $@

$(CACHE)/bin/runc: integration/tools/runc/go.mod integration/tools/runc/go.sum
	@mkdir -p $(CACHE)/bin
	cd integration/tools/runc && CGO_ENABLED=1 go build $(STATIC) -o ../../../$@ github.com/opencontainers/runc

# The plugins of today: those of Debian are of before GC and STATUS.
PLUGINS := main/bridge main/ptp ipam/host-local meta/portmap meta/bandwidth meta/tuning
$(CACHE)/bin/cni/bridge: integration/tools/cniplugins/go.mod integration/tools/cniplugins/go.sum
	@mkdir -p $(CACHE)/bin/cni
	cd integration/tools/cniplugins && CGO_ENABLED=0 GOFLAGS= go build -trimpath -ldflags '-s -w' -o ../../../$(CACHE)/bin/cni/ \
		$(addprefix github.com/containernetworking/plugins/plugins/,$(PLUGINS))

$(CACHE)/bin/kubelet: integration/tools/kubelet/go.mod integration/tools/kubelet/go.sum
	@mkdir -p $(CACHE)/bin
	cd integration/tools/kubelet && CGO_ENABLED=0 GOFLAGS= go build -trimpath \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$(awk '$$1 == "k8s.io/kubernetes" {print $$2}' go.mod)" \
		-o ../../../$(CACHE)/bin/ k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/test/images/agnhost

.PHONY: kubelet-test
kubelet-test: setup $(CACHE)/bin/kubelet ## a real kubelet, standalone with static pods, on a whole daemon (root; builds a kubelet)
	RUNTIMED_KUBELET=$(CURDIR)/$(CACHE)/bin/kubelet RUNTIMED_AGNHOST=$(CURDIR)/$(CACHE)/bin/agnhost \
		go test -tags=seccomp,netgo,osusergo,kubelet -count=1 -timeout 40m -v ./integration/kubelet

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (60s), one after the other
	@grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' cmd pkg integration | sort | \
	while IFS=: read -r file _ match; do \
		echo "== $${file%/*} $${match#func }"; \
		(cd "$${file%/*}" && go test -run '^$$' -fuzz "^$${match#func }\$$" -fuzztime $(FUZZTIME) . </dev/null); \
	done

.PHONY: bench-quick
bench-quick: setup build $(CACHE)/bin/runc ## ours beside runc, conmon and tar, paired in one run (root)
	@bash integration/bench/bench.sh

.PHONY: bench-node
bench-node: setup build ## memory, idle CPU and statistics of a node with 50 pods; five minutes of rest (root)
	@ONLY=node bash integration/bench/bench.sh

.PHONY: demo
demo: setup build $(CACHE)/bin/crictl ## a pod from a registry to its removal, in directories and a network of its own (root)
	@bash integration/demo/demo.sh

# FOCUS='regular expression' runs only what matches; ARGS has more flags of `conformance run`.
RUNS ?= 1
FOCUS ?=
ARGS ?=
.PHONY: conformance
conformance: setup $(CACHE)/bin/critest $(CACHE)/bin/crictl ## critest, all specs, RUNS=1 times; results in .cache/conformance/result (root)
	CGO_ENABLED=0 go build -o $(CACHE)/conformance/bin/conformance ./integration/conformance
	$(CACHE)/conformance/bin/conformance images $(CACHE)/conformance/images
	$(CACHE)/conformance/bin/conformance run -runs $(RUNS) -focus '$(FOCUS)' $(ARGS)

.PHONY: conformance-auto
conformance-auto: ## the same under the default policy, which differs where integration/conformance/auto.txt says so (root)
	@$(MAKE) conformance ARGS='-policy auto -differ integration/conformance/auto.txt -out $(CACHE)/conformance/auto $(ARGS)'

.PHONY: conformance-kit
conformance-kit: build $(CACHE)/bin/critest $(CACHE)/bin/crictl ## what a machine without a compiler needs for the same: .cache/conformance/{bin,images}
	CGO_ENABLED=0 go build -o $(CACHE)/conformance/bin/conformance ./integration/conformance
	$(CACHE)/conformance/bin/conformance images $(CACHE)/conformance/images
	cp $(BIN)/runtimed* $(CACHE)/bin/critest $(CACHE)/bin/crictl $(CACHE)/conformance/bin/

.PHONY: vm-test
vm-test: ## what needs cgroup v2, systemd, AppArmor, a full disk or a power cut, in a test machine without KVM (root)
	@command -v mmdebstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends mmdebstrap </dev/null
	@bash integration/vm/test.sh

PREFIX ?= /usr/local
# Programs that run are replaced, never written into; what a person may have changed in /etc stays.
.PHONY: install
install: build ## the programs, a systemd unit, /etc/runtimed and /etc/crictl.yaml, below DESTDIR and PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/lib/runtimed $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system \
		$(DESTDIR)$(PREFIX)/share/doc/runtimed $(DESTDIR)/etc/runtimed
	install -m 0755 $(addprefix $(BIN)/,runtimed runtimed-shim runtimed-monitor runtimed-init runtimed-unpack) $(DESTDIR)$(PREFIX)/lib/runtimed/
	ln -sfn ../lib/runtimed/runtimed $(DESTDIR)$(PREFIX)/bin/runtimed
	install -m 0644 README.md LICENSE docs/*.md $(DESTDIR)$(PREFIX)/share/doc/runtimed/
	sed 's#/usr/local/#$(PREFIX)/#g' packaging/runtimed.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/runtimed.service
	chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/runtimed.service
	[ -e $(DESTDIR)/etc/runtimed/config.toml ] || install -m 0644 packaging/config.toml $(DESTDIR)/etc/runtimed/config.toml
	[ -e $(DESTDIR)/etc/crictl.yaml ] || install -m 0644 packaging/crictl.yaml $(DESTDIR)/etc/crictl.yaml

.PHONY: uninstall
uninstall: ## what install made, but for /etc; stop the service and remove the pods first
	rm -rf $(DESTDIR)$(PREFIX)/lib/runtimed $(DESTDIR)$(PREFIX)/share/doc/runtimed
	rm -f $(DESTDIR)$(PREFIX)/bin/runtimed $(DESTDIR)$(PREFIX)/lib/systemd/system/runtimed.service

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) $(CACHE)
