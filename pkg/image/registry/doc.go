// Package registry fetches images from OCI and Docker registries, which it does not believe.
//
// It owns references, credentials, the rules on where a request may go, and every limit on what a registry may send: how
// much, how slowly, how often. It never parses a layer, never keeps a file but the one it is given, and never decides
// whether an image is trusted: without a trust.Verified it fetches no layer.
//
// An Image, the outcome of Resolve, lives for one pull. It holds the sessions (one for each mirror, one for the registry
// itself) through which the manifest came, and fetches config and layers through them. Close ends its connections.
package registry
