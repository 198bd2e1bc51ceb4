// Package passwd reads an image's /etc/passwd and /etc/group (passwd(5), group(5)).
//
// It owns the reading of these foreign bytes: bounded, and strict where leniency would hand out an identity. A line that
// is not whole, or has an id that is no number from 0 to 2³¹−1, is no entry, while other readers take such an id for 0,
// which is root. It never writes either file. A File lives for one decision.
package passwd
