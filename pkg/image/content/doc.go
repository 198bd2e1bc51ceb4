// Package content knows what an image is made of: digests, the JSON documents that a registry serves (manifest, index,
// config), and the directory where the few that are kept lie.
//
// It owns the checks that make foreign bytes plain data: the size caps, the one reading of a document, digests that are
// proven. It never speaks to a registry, never unpacks, and never acts on what an image says of itself.
//
// A document's life: bytes and the content type that came with them go into Parse, which returns a Manifest or an Index
// or refuses; the bytes that were parsed are kept by digest in Blobs and are hashed again whenever they are read.
package content
