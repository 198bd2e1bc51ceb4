// Package image makes the images that critest asks for, from this machine's static busybox and the stand-ins, as an OCI
// layout in a directory, and puts such a layout into a registry. It owns what is in the images and the form in which each
// is kept: OCI and Docker manifests, with and without an index, on purpose. It fetches nothing.
package image
