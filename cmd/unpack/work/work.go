package work

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/cmd/unpack/jail"
	"github.com/runtimed/runtimed/cmd/unpack/untar"
	"github.com/runtimed/runtimed/pkg/image/layer"
	"github.com/runtimed/runtimed/pkg/image/rootfs"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// second marks the arguments of the second image.
const second = "unpack-in-jail"

// Main is the worker. It answers on layer.ResultFD; its error is only for where even that fails.
func Main(args []string) error {
	if len(args) > 1 && args[1] == second {
		result, err := unpack(args[2:])
		return answer(result, err)
	}
	return answer(layer.Result{}, enter())
}

func answer(r layer.Result, err error) error {
	pipe := os.NewFile(layer.ResultFD, "result")
	if pipe == nil {
		return fmt.Errorf("there is no result pipe: runtimed-unpack is started by runtimed alone")
	}
	if werr := layer.WriteOutcome(pipe, r, err); werr != nil {
		return fmt.Errorf("answer %v: %w", err, werr)
	}
	return nil
}

// enter returns only with an error.
func enter() error {
	pipe := os.NewFile(layer.JobFD, "job")
	job, err := layer.ReadJob(pipe)
	if err != nil {
		return unavailable(err)
	}
	pipe.Close()
	l := job.Limits
	return unavailable(jail.Enter(jail.Plan{
		Target: job.Target, Parents: job.Parents, FileSize: l.Bytes,
		Args: []string{
			"runtimed-unpack", second, job.Compression, job.DiffID, strconv.Itoa(len(job.Parents)),
			strconv.FormatInt(l.Bytes, 10), strconv.FormatInt(l.Entries, 10), strconv.Itoa(l.Ratio), strconv.Itoa(l.Depth),
		},
	}))
}

func unavailable(err error) error {
	return spec.Errorf(errdefs.ErrUnavailable, "unpack worker: %w", err)
}

// unpack is the second image.
func unpack(args []string) (layer.Result, error) {
	job, parents, err := parse(args)
	if err != nil {
		return layer.Result{}, unavailable(err)
	}
	unix.Umask(0)
	if err := jail.Seal(); err != nil {
		return layer.Result{}, unavailable(err)
	}
	job.Blob = os.NewFile(layer.BlobFD, "blob")
	if job.Target, err = os.Open(jail.Target); err != nil {
		return layer.Result{}, unavailable(err)
	}
	lower := make([]string, parents)
	for i := range lower {
		lower[i] = jail.Lower(i)
	}
	if job.Lower, err = rootfs.OpenStack(lower); err != nil {
		return layer.Result{}, unavailable(err)
	}
	return untar.Apply(job)
}

func parse(args []string) (untar.Job, int, error) {
	var j untar.Job
	if len(args) != 7 {
		return j, 0, fmt.Errorf("%d arguments, not 7", len(args))
	}
	j.Compression, j.DiffID = args[0], args[1]
	var n [5]int64
	for i := range n {
		v, err := strconv.ParseInt(args[2+i], 10, 64)
		if err != nil {
			return j, 0, err
		}
		n[i] = v
	}
	j.Limits = layer.Limits{Bytes: n[1], Entries: n[2], Ratio: int(n[3]), Depth: int(n[4])}
	return j, int(n[0]), nil
}
