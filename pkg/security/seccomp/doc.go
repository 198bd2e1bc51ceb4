// Package seccomp turns a profile that a request names into the filter of an OCI config.
//
// It owns where profiles come from and what is refused in one. libcontainer compiles and loads the filter, in the
// container's init, and answers ENOSYS for calls that are younger than the profile; a profile that cannot be believed
// never gets that far, and never becomes "no filter". A filter lives for one start; nothing is cached here.
package seccomp
