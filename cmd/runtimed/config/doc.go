// Package config reads the one configuration file.
//
// It owns the list of keys: their defaults, their meaning in words, their types and what is possible. `config show` and
// docs/configuration.md are written from that list. It never changes the system, and only reads the one file that it is
// given. A key that is unknown, of the wrong type or impossible is an error with its line: nothing that the operator
// wrote is passed over.
//
// A Config is made by Default or Load and is then plain data that nobody changes.
package config
