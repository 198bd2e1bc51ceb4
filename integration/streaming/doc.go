// Package streaming tests sessions with a whole daemon and clients that are not ours: crictl through a pseudo-terminal,
// over SPDY and WebSocket, and what is left when clients go away.
package streaming
