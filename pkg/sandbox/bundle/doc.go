// Package bundle writes down what was decided: from the records of a container and its sandbox it makes the OCI
// config.json (runtime-spec v1.3.0) and launch.json that the shim executes blindly.
//
// It owns the order of mounts, environment, arguments and limits. It is pure: it decides nothing about permissions
// (security did, in the record's Profile), opens no file and asks no kernel; what must be looked up on the node comes in
// with the Input. Of the image it takes the command, the environment, the working directory and the volumes, checked
// here, because their author is not trusted: none of them selects a path of the host.
//
// An Input lives for one Build; a container is built once at create, to refuse what cannot work, and again at start.
package bundle
