package xtables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// table is the filter table of ip_tables or ip6_tables (linux/netfilter_ipv4/ip_tables.h and its IPv6 twin).
type table struct {
	names         string // the file that lists the tables that are there: asking for another one would load it
	family, level int
	header        int // size of struct ipt_ip, ip6t_ip6
}

var (
	ipv4 = table{names: "/proc/thread-self/net/ip_tables_names", family: unix.AF_INET, level: unix.SOL_IP, header: 84}
	ipv6 = table{names: "/proc/thread-self/net/ip6_tables_names", family: unix.AF_INET6, level: unix.SOL_IPV6, header: 136}
)

const (
	soGetInfo, soGetEntries = 64, 65 // IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES
	hookForward             = 2      // NF_INET_FORWARD
	nameLen                 = 32     // XT_TABLE_MAXNAMELEN
)

var errFormat = errors.New("the kernel's answer is shorter than it says")

// ForwardDrops tells whether the FORWARD chain of the family's filter table has the policy DROP and no rule of the table
// names the bridge and accepts. A table that is not there drops nothing. It looks at the network namespace of the
// calling thread.
func ForwardDrops(v4 bool, bridge string) (bool, error) {
	if v4 {
		return ipv4.forwardDrops(bridge)
	}
	return ipv6.forwardDrops(bridge)
}

func (t table) forwardDrops(bridge string) (bool, error) {
	names, err := os.ReadFile(t.names)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(names)), "filter") {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(t.family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	// struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size.
	info := make([]byte, nameLen+4*13)
	copy(info, "filter")
	if err := getsockopt(fd, t.level, soGetInfo, info); err != nil {
		return false, err
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(info[nameLen+4*i:]) }
	first, policy, size := word(1+hookForward), word(6+hookForward), word(12)
	// struct ipt_get_entries: name, size, padded to 8 bytes, the entries.
	const head = nameLen + 8
	buf := make([]byte, head+int(size))
	copy(buf, "filter")
	binary.NativeEndian.PutUint32(buf[nameLen:], size)
	if err := getsockopt(fd, t.level, soGetEntries, buf); err != nil {
		return false, err
	}
	return t.parse(buf[head:], int(first), int(policy), bridge)
}

// parse tells whether the policy at the offset is DROP and no rule accepts the bridge. Rules that jump elsewhere are
// taken as not accepting, but all chains are looked through.
func (t table) parse(entries []byte, first, policy int, bridge string) (bool, error) {
	const accept, drop = -2, -1 // -NF_ACCEPT-1, -NF_DROP-1
	p, err := t.read(entries, policy)
	if err != nil || p.verdict != drop || first < 0 {
		return false, err
	}
	for off := 0; off < len(entries); {
		e, err := t.read(entries, off)
		if err != nil {
			return false, err
		}
		if (e.in == bridge || e.out == bridge) && e.verdict == accept {
			return false, nil
		}
		off += e.next
	}
	return true, nil
}

type entry struct {
	in, out string
	verdict int32 // 0 where the target is no standard one
	next    int
}

// read reads one struct ipt_entry: the header, nfcache (4), target_offset (2), next_offset (2), comefrom (4), counters
// (16), the matches, the target {size 2, name 29, revision 1, verdict 4}.
func (t table) read(entries []byte, off int) (entry, error) {
	fixed := t.header + 28
	if off < 0 || off > len(entries)-fixed {
		return entry{}, errFormat
	}
	b := entries[off:]
	target := int(binary.NativeEndian.Uint16(b[t.header+4:]))
	e := entry{next: int(binary.NativeEndian.Uint16(b[t.header+6:]))}
	if e.next < fixed || target < fixed || target > e.next || e.next > len(b) {
		return entry{}, errFormat
	}
	// Both headers hold two addresses and two masks first, then the two names.
	addrs := 16
	if t.family == unix.AF_INET6 {
		addrs = 64
	}
	e.in, e.out = cString(b[addrs:addrs+unix.IFNAMSIZ]), cString(b[addrs+unix.IFNAMSIZ:addrs+2*unix.IFNAMSIZ])
	if tg := b[target:e.next]; len(tg) >= 36 && cString(tg[2:31]) == "" {
		e.verdict = int32(binary.NativeEndian.Uint32(tg[32:]))
	}
	return e, nil
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func getsockopt(fd, level, opt int, buf []byte) error {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
