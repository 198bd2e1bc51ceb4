package monitor

import (
	"reflect"
	"strings"
	"testing"
)

func full() Args {
	return Args{
		ContainerID: "c1", Dir: "/d", Socket: "/run/s.sock", LogPath: "/var/log/a=b c\n", Fifo: "/d/state/c1/exec.fifo",
		InitPID: 42, InitTicks: 1 << 63, BootID: "b", OOMFile: "/sys/fs/cgroup/memory/x/memory.oom_control",
		KillFiles: []string{"/k1", "/k2"}, ProcsFiles: []string{"/p1"}, StdinOnce: true,
		Stdout: 3, Stderr: 4, Stdin: 5, Console: -1, Status: 6, Lock: 7,
	}
}

func least() Args {
	return Args{
		ContainerID: "c1", Dir: "/d", Socket: "/s", Fifo: "/f", InitPID: 1, InitTicks: 0, BootID: "b",
		Stdout: -1, Stderr: -1, Stdin: -1, Console: -1, Status: -1, Lock: -1,
	}
}

func TestArgsRoundTrip(t *testing.T) {
	tty := full()
	tty.TTY, tty.Console, tty.Stdout, tty.Stderr, tty.Stdin = true, 9, -1, -1, -1
	for name, want := range map[string]Args{"full": full(), "least": least(), "tty": tty} {
		got, err := ParseArgs(want.Argv())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestArgsRefused(t *testing.T) {
	with := func(extra ...string) []string { return append(least().Argv(), extra...) }
	without := func(key string) []string {
		var out []string
		for _, a := range least().Argv() {
			if !strings.HasPrefix(a, key+"=") {
				out = append(out, a)
			}
		}
		return out
	}
	for name, argv := range map[string][]string{
		"empty": nil, "other version": {"version=2"}, "version missing": without("version"),
		"no value": with("log="), "no equals": with("log"), "unknown": with("x=1"), "twice": with("pid=2"),
		"relative": with("log=a"), "relative list": with("kill=a"), "fd below 3": with("stdout=2"), "fd sign": with("stdout=+5"),
		"fd huge": with("stdout=4294967299"), "fd twice": with("stdout=5", "stderr=5"), "tty without console": with("tty=1"),
		"console without tty": with("console=5"), "console and stdout": with("tty=1", "console=5", "stdout=6"),
		"tty value": with("tty=true", "console=5"), "pid 0": append(without("pid"), "pid=0"), "ticks": append(without("ticks"), "ticks=-1"),
		"id missing": without("id"), "dir missing": without("dir"), "socket missing": without("socket"),
		"fifo missing": without("fifo"), "pid missing": without("pid"), "ticks missing": without("ticks"), "boot missing": without("boot"),
	} {
		if a, err := ParseArgs(argv); err == nil {
			t.Errorf("%s: accepted as %+v", name, a)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	f.Add(strings.Join(full().Argv(), "\x00"))
	f.Add(strings.Join(least().Argv(), "\x00"))
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseArgs(strings.Split(s, "\x00"))
		if err != nil {
			return
		}
		b, err := ParseArgs(a.Argv())
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v became %+v (%v)", a, b, err)
		}
	})
}
