// Package tracing sends traces of calls and of their steps to an OpenTelemetry collector, where the configuration names one.
//
// A span is a call, with the ids that it is about, or one step of a flow, with the id of its object; both belong to the
// caller's trace where the caller has one. It never delays what it traces: spans are sent in the background, and dropped
// when the collector does not take them. Nothing of a message but ids is in a span.
package tracing
