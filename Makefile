export GOFLAGS := -tags=seccomp,netgo,osusergo

BIN := bin
# Static: a binary that is executed inside a container's mount namespace must not need a library from there.
STATIC := -trimpath -ldflags '-s -w -linkmode external -extldflags "-static"'
LEAN := -trimpath -ldflags '-s -w'

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-14s %s\n", $$1, $$2}'
