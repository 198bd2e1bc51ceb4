// Package controlpb is the generated code of control.proto, the versioned service beside the CRI. It owns the wire
// format and nothing else.
package controlpb

//go:generate sh -c "d=$(mktemp -d) && GOFLAGS= GOBIN=$DOLLAR{d} go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 && GOFLAGS= GOBIN=$DOLLAR{d} go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0 && PATH=$DOLLAR{d}:$DOLLAR{PATH} protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative control.proto; rm -rf $DOLLAR{d}"
