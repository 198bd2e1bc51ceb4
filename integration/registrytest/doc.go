// Package registrytest is a real registry on loopback for tests and for the demo: go-containerregistry's, with
// authentication, TLS, a log of what was asked, and ways to misbehave.
//
// It owns the making of images from files (Image, Build) and the registry's life (Start, or New in a test). It is never
// part of the product.
package registrytest
