// Package apparmor holds the default AppArmor profile and loads it.
//
// It owns the profile's text, and its name, which carries the text's hash: a release with another text loads another
// profile, and containers that run keep theirs. It never replaces or removes a profile, never decides which container
// gets one, and never loads another's.
//
// The life of the profile: Load at the daemon's start, where the kernel has AppArmor, through apparmor_parser(8), unless
// it is there already. It stays until the machine reboots.
package apparmor
