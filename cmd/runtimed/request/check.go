package request

import (
	"errors"
	"fmt"
	"path"
	"unicode/utf8"
)

// CheckImage refuses what cannot be the name of an image at all; whether it is one, the daemon says.
func CheckImage(ref string) error {
	if ref == "" {
		return errors.New("the name of the image is empty")
	}
	return utf("the name of the image", ref)
}

// check refuses what the daemon could only refuse in words that are not the command line's.
func check(o Options) error {
	if err := CheckImage(o.Image); err != nil {
		return err
	}
	if o.Workdir != "" && !path.IsAbs(o.Workdir) {
		return fmt.Errorf("-w %q: a path inside the container that begins with / is possible", o.Workdir)
	}
	fields := map[string][]string{"an argument": o.Args, "-e": o.Env, "-v": o.Volumes, "-w": {o.Workdir}, "-u": {o.User}}
	if o.Entrypoint != nil {
		fields["--entrypoint"] = []string{*o.Entrypoint}
	}
	for what, all := range fields {
		for _, s := range all {
			if err := utf(what, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// utf refuses what the CRI's protocol cannot carry.
func utf(what, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %q: is not UTF-8", what, s)
	}
	return nil
}
