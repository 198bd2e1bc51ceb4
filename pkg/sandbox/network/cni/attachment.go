package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// attachment is <sandbox>.json: all that a DEL needs. It is written once.
type attachment struct {
	Version      int
	SandboxID    string
	Netns        string
	IfName       string
	Args         [][2]string
	Capabilities map[string]any
	// Config is the list in its normal form.
	Config json.RawMessage
}

const (
	attachedDir = "attached" // ADD began
	leavingDir  = "leaving"  // DEL is owed
	resultsDir  = "results"  // libcni's
	// maxAttachment bounds a file: a configuration, and the annotations of a pod.
	maxAttachment = conf.MaxFile + 4<<20
)

// journal is the directory of attachments.
type journal struct{ dir string }

func (j journal) path(state, id string) string { return filepath.Join(j.dir, state, id+".json") }

func (j journal) prepare() error {
	for _, d := range []string{attachedDir, leavingDir, resultsDir} {
		if err := os.MkdirAll(filepath.Join(j.dir, d), 0o700); err != nil {
			return err
		}
	}
	halves, _ := filepath.Glob(filepath.Join(j.dir, attachedDir, "*.new"))
	for _, h := range halves {
		os.Remove(h)
	}
	return nil
}

// add writes an attachment. Its error is fs.ErrExist when there is one of that id.
func (j journal) add(a attachment) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if len(b) > maxAttachment {
		return spec.Invalidf("annotations and configuration of sandbox %s together are larger than %d bytes", a.SandboxID, maxAttachment)
	}
	path := j.path(attachedDir, a.SandboxID)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, path) // unlike a rename, it replaces nothing
}

// leave marks the attachment: a DEL is owed. One that is not there is no error.
func (j journal) leave(id string) error {
	err := os.Rename(j.path(attachedDir, id), j.path(leavingDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// left forgets an attachment whose DEL is done, with what libcni keeps of it.
func (j journal) left(id string) error {
	results, _ := filepath.Glob(filepath.Join(j.dir, resultsDir, "*-"+id+"-*"))
	for _, r := range results {
		if err := os.Remove(r); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := os.Remove(j.path(leavingDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (j journal) has(state, id string) bool {
	_, err := os.Lstat(j.path(state, id))
	return err == nil
}

// list returns the ids in a state, by name. What is not an attachment's file is passed over.
func (j journal) list(state string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(j.dir, state))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && utils.ValidateContainerID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// read returns an attachment. What cannot be believed is an error.
func (j journal) read(state, id string) (attachment, error) {
	path := j.path(state, id)
	f, err := os.Open(path)
	if err != nil {
		return attachment{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttachment+1))
	if err != nil {
		return attachment{}, err
	}
	a, err := parseAttachment(b)
	if err == nil && a.SandboxID != id {
		err = fmt.Errorf("it is of sandbox %q", a.SandboxID)
	}
	if err != nil {
		return attachment{}, fmt.Errorf("attachment %s cannot be believed: %w", path, err)
	}
	return a, nil
}

func parseAttachment(b []byte) (attachment, error) {
	if len(b) > maxAttachment {
		return attachment{}, fmt.Errorf("it is larger than %d bytes", maxAttachment)
	}
	var a attachment
	if err := json.Unmarshal(b, &a); err != nil {
		return a, err
	}
	if a.Version != spec.RecordVersion {
		return a, fmt.Errorf("it has version %d: this release knows %d", a.Version, spec.RecordVersion)
	}
	if err := utils.ValidateContainerID(a.SandboxID); err != nil {
		return a, err
	}
	if err := utils.ValidateInterfaceName(a.IfName); err != nil {
		return a, err
	}
	_, err := conf.Parse(a.Config)
	return a, err
}

// runtimeConf is what libcni gives to plugins. netns is "" where the namespace is gone.
func (a attachment) runtimeConf(netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: a.SandboxID, NetNS: netns, IfName: a.IfName, Args: a.Args, CapabilityArgs: a.Capabilities}
}
