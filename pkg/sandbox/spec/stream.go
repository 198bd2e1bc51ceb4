package spec

import "io"

// TerminalSize is in cells.
type TerminalSize struct{ Width, Height uint16 }

// Streams are the caller's ends of an exec session or an attachment; nil is one that the caller does not want. Who is
// given them never closes them. Of a terminal there is no Stderr: its output is one stream.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY asks for a terminal of an exec session; an attachment has one where its container does.
	TTY bool
	// Resize ends with the caller; nil where there is no terminal.
	Resize <-chan TerminalSize
}

// StreamRequest runs a command in a running container with the caller's streams.
type StreamRequest struct {
	ContainerID string
	Command     []string
	Streams     Streams
	// Copy runs runtimed's own copier, as root inside; Command is its arguments, and no program of the image is run.
	Copy bool
}
