// Package applydiff compares what the unpack worker makes of layers with what containerd's archive.Apply makes of them. It
// is a module of its own, so that containerd is in no other build. It has tests only.
//
// A set of layers is generated from a seed, unpacked by the worker one on the other and mounted as an overlay, and applied
// to a plain directory by archive.Apply; the two trees must be the same. Where the two are known to differ (the list is in
// cmd/unpack/untar) the generator does not go.
package applydiff
