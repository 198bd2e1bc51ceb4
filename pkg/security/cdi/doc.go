// Package cdi looks up devices of the Container Device Interface (tags.cncf.io/container-device-interface, SPEC.md): what
// a container gets that asks for one by name.
//
// It owns who may write the files that say so, and which of their edits this runtime makes; the reference library reads
// and resolves them. It applies nothing: pkg/sandbox/bundle checks the answer once more and writes it into config.json. The
// files are root's word, like the configuration: they may name programs that run on the node. A file that others than
// root can write refuses every device, because it could name any.
//
// A Registry is the list of directories. Nothing is kept: each lookup reads the files as they are.
package cdi
