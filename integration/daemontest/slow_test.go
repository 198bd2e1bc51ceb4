package daemontest

import "testing"

func TestSlowness(t *testing.T) {
	for text, want := range map[string]int{"": 1, "1": 1, "4": 4, "20": 20} {
		if got := slownessOf(text); int(got) != want {
			t.Errorf("%q is %d", text, got)
		}
	}
	for _, bad := range []string{"0", "-1", "21", "1.5", "x", "99999999999999999999"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is taken", bad)
				}
			}()
			slownessOf(bad)
		}()
	}
}
