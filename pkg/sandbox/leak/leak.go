package leak

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/cgroup"
	"github.com/runtimed/runtimed/pkg/sandbox/network"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// Kind of a leak.
type Kind string

const (
	Process   Kind = "process"
	Mount     Kind = "mount"
	Pin       Kind = "pin" // of a namespace
	Network   Kind = "network"
	Cgroup    Kind = "cgroup"
	Directory Kind = "directory"
	Range     Kind = "range" // of user ids
)

// Leak is one thing that is there and belongs to nobody.
type Leak struct {
	Kind Kind   `json:"kind"`
	What string `json:"what"` // names it
	Fix  string `json:"fix"`  // what a person can do about it
}

// Pool is the node's ids that the daemon hands out: Count ranges of Size ids from Start on. A Count of 0 is none.
type Pool struct{ Start, Size, Count uint32 }

func (p Pool) holds(id uint32) bool {
	return id >= p.Start && uint64(id) < uint64(p.Start)+uint64(p.Size)*uint64(p.Count)
}

// Options say whose leaks are looked for. All but Settle must be those of the daemon.
type Options struct {
	Layout     spec.Layout
	CgroupRoot string
	// Cgroups reads the node's groups; nil detects the node's hierarchies.
	Cgroups *cgroup.Manager
	Network network.Config
	// CNIOnly: the pods' network is made by plugins, and Network is not looked at. CNICache is looked at where it is there.
	CNIOnly  bool
	CNICache string
	Pool     Pool
	// Settle is the time between the two looks; 0 looks once.
	Settle time.Duration
}

// Find names all leaks, sorted by kind and name. It must be called in the daemon's mount, network and PID namespaces. An
// error means that something could not be looked at; the leaks that were found come with it.
func Find(ctx context.Context, o Options) ([]Leak, error) {
	found, err := look(ctx, o)
	if len(found) == 0 || o.Settle <= 0 || ctx.Err() != nil {
		return found, err
	}
	select {
	case <-ctx.Done():
		return found, errors.Join(err, ctx.Err())
	case <-time.After(o.Settle):
	}
	again, err := look(ctx, o)
	return both(found, again), err
}

// both are the leaks that two looks have seen.
func both(a, b []Leak) []Leak {
	return slices.DeleteFunc(b, func(l Leak) bool { return !slices.Contains(a, l) })
}

func look(ctx context.Context, o Options) ([]Leak, error) {
	known, err := readRecords(o.Layout)
	if err != nil {
		return nil, err // without the records nobody knows what belongs to whom
	}
	if o.Cgroups == nil {
		node, err := cgroup.Detect()
		if err != nil {
			return nil, err
		}
		o.Cgroups = cgroup.New(node, nil)
	}
	var all []Leak
	var failed []error
	for _, find := range []func(context.Context, Options, records) ([]Leak, error){
		processes, mounts, networks, attachments, groups, directories, ranges,
	} {
		if ctx.Err() != nil {
			return all, errors.Join(append(failed, ctx.Err())...)
		}
		found, err := find(ctx, o, known)
		all = append(all, found...)
		if err != nil {
			failed = append(failed, err)
		}
	}
	slices.SortFunc(all, func(a, b Leak) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.What, b.What)) })
	return slices.Compact(all), errors.Join(failed...)
}
