package wire

import (
	"bytes"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

var whole = Setup{Kinds: []string{"user", "net"}, UIDMap: "0 1 2\n", GIDMap: "0 5 6\n7 8 9\n", Hostname: "pod", Loopback: true, Sysctls: []Sysctl{{"net/ipv4/ping_group_range", "0 2147483647"},
	{"kernel/shmmax", ""}, {"fs/mqueue/msg_max", "10"}}}

func TestThereAndBack(t *testing.T) {
	for name, s := range map[string]Setup{"whole": whole, "nothing": {}, "loopback": {Loopback: true}} {
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(b)
		short := true
		got, err := Read(func(p []byte) (int, error) {
			if short = !short; short {
				return 0, syscall.EINTR
			}
			return r.Read(p[:min(len(p), 3)])
		})
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, s := range map[string]Setup{"NUL": {Hostname: "a\x00b"}, "NUL in a value": {Sysctls: []Sysctl{{"net/a", "\x00"}}},
		"size": {Sysctls: []Sysctl{{"net/a", strings.Repeat("1", MaxSetup)}}}} {
		if _, err := s.Encode(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, b := range map[string]string{"nothing": "", "header alone": "\x05\x00\x00\x00", "too long": "\x00\x00\x02\x00",
		"negative": "\xff\xff\xff\xff", "word": "\x04\x00\x00\x00abc\x00", "no end": "\x08\x00\x00\x00loopback",
		"hostname": "\x09\x00\x00\x00hostname\x00", "kind": "\x09\x00\x00\x00kind\x00mnt\x00", "maps": "\x09\x00\x00\x00maps\x00abc\x00", "empty hostname": "\x0a\x00\x00\x00hostname\x00\x00",
		"sysctl":         "\x0d\x00\x00\x00sysctl\x00net/a\x00",
		"outside sysctl": "\x1c\x00\x00\x00sysctl\x00kernel/core_pattern\x00\x00"} {
		r := strings.NewReader(b)
		if s, err := Read(r.Read); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestNamespace(t *testing.T) {
	for path, want := range map[string]string{"net/ipv4/ip_forward": "net", "net/ipv4/conf/eth0.1/rp_filter": "net",
		"kernel/shmmax": "ipc", "kernel/sem": "ipc", "fs/mqueue/queues_max": "ipc", "kernel/domainname": "uts",
		"kernel/hostname": "", "kernel/core_pattern": "", "kernel/shmmaxx": "", "vm/overcommit_memory": "", "net": "",
		"net/": "", "net/../kernel/core_pattern": "", "net/./x": "", "net//x": "", "/net/x": "", "": "", "net/a\nb": "",
		"net/a b": "", "net/é": "", "fs/mqueue": "", "net/" + strings.Repeat("a", 300): ""} {
		if got := Namespace(path); got != want {
			t.Errorf("Namespace(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestReply(t *testing.T) {
	for _, r := range []Reply{{}, {Err: "sysctl \"x\": invalid", Errno: syscall.EINVAL}, {Err: "two words", Errno: 0}} {
		got, err := ParseReply(r.Encode())
		if err != nil || got != r {
			t.Errorf("%+v came back as %+v, %v", r, got, err)
		}
	}
	for _, line := range []string{"", "ok", "ok ok\n", "error\n", "error 1\n", "error x y\n", "error -1 y\n", "panic: x\n", "error 1 \n"} {
		if r, err := ParseReply(line); err == nil {
			t.Errorf("%q is %+v", line, r)
		}
	}
}

func TestPID(t *testing.T) {
	if n, ok := ParsePID(PID(4711)); n != 4711 || !ok {
		t.Errorf("4711 came back as %d, %v", n, ok)
	}
	for _, line := range []string{"", "pid 1", "pid -1\n", "pid 0\n", "pid x\n", "pid 99999999999999999999\n", "ok\n"} {
		if n, ok := ParsePID(line); ok {
			t.Errorf("%q is %d", line, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, _ := whole.Encode()
	f.Add(b[header:])
	f.Add([]byte("sysctl\x00net/../kernel/x\x00\x00"))
	f.Add([]byte("hostname\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		for _, c := range s.Sysctls {
			if Namespace(c.Path) == "" || strings.Contains("/"+c.Path+"/", "/../") {
				t.Errorf("path %q", c.Path)
			}
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(again[header:]); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v came back as %+v, %v", s, got, err)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add("ok\n")
	f.Add("error 22 text\n")
	f.Fuzz(func(t *testing.T, line string) {
		if r, err := ParseReply(line); err == nil && r.Err != "" {
			if got, err := ParseReply(r.Encode()); err != nil || got.Errno != r.Errno {
				t.Errorf("%q: %+v, %v", line, got, err)
			}
		}
	})
}
