// Package image is the node's image store: it pulls, keeps, finds and removes images, and lends them to containers.
//
// It owns the directory Layout.Images and all that is in it:
//
//	records/<hex>.json   one image: its tags, digests and layers; replaced by rename, synced
//	blobs/sha256/<hex>   its manifest and config
//	layers/<hex>/        one lower directory per chain id, shared by images
//	ingest/<pull>/       layer blobs on their way
//	staging/<pull>/      layers being unpacked
//	trash/<random>/      what is being deleted
//
// It never parses a layer (the unpack worker does, in a process of its own), never acts on what an image says of itself,
// and fetches and unpacks nothing without a trust.Verified.
//
// A layer's life: the worker unpacks it in staging, one rename moves it to layers, one syncfs makes it durable together
// with the others of its image, and then the image's record names it. It stays while a record, a pull in flight, a
// borrower (Use) or a container names it; then it is renamed into the trash and deleted in the background. What a power
// cut leaves in layers is named by no record: the next pull or Collect removes it before it can be taken for whole.
package image
