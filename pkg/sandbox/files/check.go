package files

import (
	"net/netip"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	maxHostname = 64       // sethostname(2), __NEW_UTS_LEN
	maxDNS      = 64 << 10 // bytes, all strings of a request together
)

// Check tells, without making anything, whether Create would take the request. Errors are InvalidArgument.
func Check(r spec.FilesRequest) error {
	if r.SandboxID == "" || len(r.SandboxID) > 255 || r.SandboxID == "." || r.SandboxID == ".." || !clean(r.SandboxID) {
		return spec.Invalidf("sandbox id %.80q is not a file name", r.SandboxID)
	}
	if len(r.Hostname) > maxHostname || r.Hostname != "" && !clean(r.Hostname) {
		return spec.Invalidf("host name %.80q has a space, a control character or a slash, or more than %d bytes", r.Hostname,
			maxHostname)
	}
	for _, a := range r.Addresses {
		if _, err := netip.ParseAddr(a.IP); err != nil {
			return spec.Invalidf("address %.80q of the pod: %w", a.IP, err)
		}
	}
	return CheckDNS(r.DNS)
}

// CheckDNS tells whether a resolv.conf can be written from d: a line break in one of its strings would be a line of the
// requester's own. Errors are InvalidArgument. A nil d is fine.
func CheckDNS(d *spec.DNS) error {
	if d == nil {
		return nil
	}
	total := 0
	for _, list := range []struct {
		what    string
		strings []string
	}{{"DNS server", d.Servers}, {"DNS search domain", d.Searches}, {"DNS option", d.Options}} {
		for _, s := range list.strings {
			if total += len(s); total > maxDNS {
				return spec.Invalidf("DNS configuration is longer than %d bytes", maxDNS)
			}
			if s == "" || !word(s) {
				return spec.Invalidf("%s %.80q is empty or has a space or a control character", list.what, s)
			}
		}
	}
	for _, s := range d.Servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return spec.Invalidf("DNS server %.80q is not an IP address", s)
		}
	}
	return nil
}

// word: printable and without white space.
func word(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// clean: a word that is one component of a path.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			return false
		}
	}
	return word(s)
}
