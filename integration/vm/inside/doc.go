// Package inside is what only the test machine can show: AppArmor, a disk that is full, a machine that loses power, and
// the service under systemd. integration/vm/test.sh runs its parts there; anywhere else its tests do nothing.
package inside
