package plugin

import "testing"

// BenchmarkStrays is what the end of a hanging plugin costs at least: one look at all processes of the machine.
func BenchmarkStrays(b *testing.B) {
	for b.Loop() {
		Strays("/no/such/daemon")
	}
}
