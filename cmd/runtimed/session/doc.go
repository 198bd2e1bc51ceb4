// Package session is the command line's end of a session: it carries the user's input and a window's size into a stream
// of runtimed.control.v1, and what comes back to the user. It puts the user's terminal into raw mode and always back. It
// decides nothing about containers.
package session
