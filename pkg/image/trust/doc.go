// Package trust decides which images may be fetched and unpacked.
//
// It owns the type Verified, the only key to layers: everything that fetches or unpacks one takes a Verified, and only a
// Policy makes one. It never fetches anything, and it has no default: a node that does not say what it trusts trusts
// nothing.
//
// A Verified lives for one pull. It names the documents that were looked at, by digest, so that it opens exactly the
// layers that they name.
package trust
