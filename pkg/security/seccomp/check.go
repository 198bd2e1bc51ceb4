package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

const (
	maxRules = 8192 // of all system calls that all rules name
	maxErrno = 4095 // MAX_ERRNO, the kernel's
	maxDepth = 16
)

var actions = []specs.LinuxSeccompAction{
	specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog,
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
}

var flags = []specs.LinuxSeccompFlag{
	specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv, "SECCOMP_FILTER_FLAG_TSYNC",
}

// callName is the form of a name. One that this libseccomp does not know is passed over by libcontainer, as in every
// runtime: profiles name calls of kernels to come. One that no kernel could have is a mistake in the profile.
var callName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)

// strict refuses what a lenient reader would misread: keys that it does not know, keys given twice, and anything behind
// the document.
func strict(body []byte) error {
	if err := once(json.NewDecoder(bytes.NewReader(body)), 0); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(new(seccomp.Seccomp)); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the profile")
	}
	return nil
}

// once reads one value and refuses an object with a key twice, in whatever case: the decoder takes either.
func once(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			k := strings.ToLower(key.(string))
			if seen[k] {
				return fmt.Errorf("key %.64q is given twice", key)
			}
			seen[k] = true
		}
		if err := once(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// check refuses what libcontainer would only stumble over in the container's init, or misread, and what nobody would
// serve: a filter that notifies has no listener here.
func check(f *specs.LinuxSeccomp) error {
	if f == nil {
		return errors.New("it has neither a default action nor a rule")
	}
	if f.ListenerPath != "" || f.ListenerMetadata != "" {
		return errors.New("a listener is not served")
	}
	if err := checkAction(f.DefaultAction, f.DefaultErrnoRet); err != nil {
		return fmt.Errorf("default action: %w", err)
	}
	for _, a := range f.Architectures {
		if !knownArch(a) {
			return fmt.Errorf("architecture %.64q is not one that libseccomp knows", a)
		}
	}
	for _, l := range f.Flags {
		if !slices.Contains(flags, l) {
			return fmt.Errorf("flag %.64q is not known", l)
		}
	}
	rules := 0
	for i, call := range f.Syscalls {
		if rules += len(call.Names); rules > maxRules {
			return fmt.Errorf("more than %d rules", maxRules)
		}
		if err := checkCall(call); err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
	}
	return nil
}

func checkCall(call specs.LinuxSyscall) error {
	if len(call.Names) == 0 {
		return errors.New("it names no system call")
	}
	for _, n := range call.Names {
		if !callName.MatchString(n) {
			return fmt.Errorf("%.64q is not the name of a system call", n)
		}
	}
	if err := checkAction(call.Action, call.ErrnoRet); err != nil {
		return err
	}
	for _, a := range call.Args {
		if a.Index > 5 || !slices.Contains(operators, a.Op) {
			return fmt.Errorf("argument %d by %.64q: arguments are 0 to 5, operators SCMP_CMP_…", a.Index, a.Op)
		}
	}
	return nil
}

// checkAction: libcontainer keeps 16 bits of an errno, so that 65536 would become success.
func checkAction(a specs.LinuxSeccompAction, errno *uint) error {
	if !slices.Contains(actions, a) {
		return fmt.Errorf("action %.64q is not known or not served", a)
	}
	if errno != nil && *errno > maxErrno {
		return fmt.Errorf("errno %d is above %d", *errno, maxErrno)
	}
	return nil
}

func knownArch(a specs.Arch) bool {
	name, ok := strings.CutPrefix(string(a), "SCMP_ARCH_")
	if !ok || name != strings.ToUpper(name) {
		return false
	}
	_, err := libseccomp.GetArchFromString(name)
	return err == nil
}
