package address

import (
	"net/netip"
	"testing"
)

func TestHardwareAddresses(t *testing.T) {
	m := MAC(netip.MustParseAddr("10.88.1.2"))
	if m != [6]byte{0x0a, 0x58, 10, 88, 1, 2} || LinkLocal(m).String() != "fe80::858:aff:fe58:102" {
		t.Errorf("MAC %x, link-local %s", m, LinkLocal(m))
	}
	if m := MAC(netip.MustParseAddr("fd00::2")); m[0]&3 != 2 {
		t.Errorf("MAC %x is not unicast and local", m)
	}
	for cidr, want := range map[string]string{"10.0.0.0/8": "10.255.255.255", "10.0.0.4/30": "10.0.0.7", "192.0.2.0/25": "192.0.2.127"} {
		if got := lastAddr(netip.MustParsePrefix(cidr)); got.String() != want {
			t.Errorf("%s: broadcast %s, want %s", cidr, got, want)
		}
	}
}
