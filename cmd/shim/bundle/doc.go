// Package bundle reads the two files that a container's record directory holds for the shim, config.json and
// launch.json, and turns the process that config.json describes into libcontainer's form.
//
// It owns the checks that both files are whole and speak of the same container. It decides nothing about what a
// container may do: config.json is carried out as it is, and what it holds that this program does not understand is
// refused. It writes nothing.
//
// A Bundle lives as long as one creator or one exec stage.
package bundle
