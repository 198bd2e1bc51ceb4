package cri

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped here
	"google.golang.org/grpc/mem"
)

// parsed takes a message off the wire together with what is wrong with it. grpc itself answers Internal to a message
// that cannot be parsed, before any handler or interceptor can say that it is the caller's mistake.
type parsed struct {
	message any
	err     error
}

// codec is protobuf's, and understands parsed.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal puts the error of a parsed aside.
func (c codec) Unmarshal(b mem.BufferSlice, v any) error {
	p, ok := v.(*parsed)
	if !ok {
		return c.CodecV2.Unmarshal(b, v)
	}
	p.err = c.CodecV2.Unmarshal(b, p.message)
	return nil
}
