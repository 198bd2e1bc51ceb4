// Package client is how the command line speaks with the daemon: the CRI and the control service on one socket, and
// finding a container, pod or image by the name that a person gives.
//
// It owns the connection, the resolving of names and the wording of errors for a person, with their exit codes. It never
// changes anything by itself and reads no record. A Client lives from Dial to Close, for one command.
package client
