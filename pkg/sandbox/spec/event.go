package spec

// EventKind is a change in the life of a container, or of a sandbox as a whole.
type EventKind string

const (
	EventCreated EventKind = "created"
	EventStarted EventKind = "started"
	EventStopped EventKind = "stopped"
	EventDeleted EventKind = "deleted"
)

// Event says that a container or a sandbox has changed.
type Event struct {
	Kind EventKind
	// ID is the container's, or the sandbox's own.
	ID string
	// Sandbox is the whole pod as it was behind the change: the change can be seen in it. Its Timestamp, which is the
	// event's, was taken before the facts were read.
	Sandbox SandboxView
}
