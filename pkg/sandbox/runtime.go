package sandbox

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/runtimed/runtimed/pkg/sandbox/process"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/sandbox/state"
	"github.com/runtimed/runtimed/pkg/sandbox/step"
	"github.com/runtimed/runtimed/pkg/security"
	"github.com/runtimed/runtimed/pkg/security/cdi"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

// Options wires a Runtime. All ports are needed; Observe, Now and Log have defaults.
type Options struct {
	Layout spec.Layout
	// CgroupRoot is below each hierarchy's mount point: pods without a parent of their own and all shims live there.
	CgroupRoot string
	CgroupV2   bool
	// CgroupSystemd: the groups are systemd's slices and scopes.
	CgroupSystemd bool
	// NoSwapLimit: the kernel keeps no account of swap, so no container's is limited.
	NoSwapLimit bool
	// NoHugepageLimit: no controller limits containers' huge pages.
	NoHugepageLimit bool
	// NodeHostname is what a pod on the node's network sees as its own.
	NodeHostname string

	Namespaces Namespaces
	Network    Network
	Cgroups    Cgroups
	Limits     Limits
	Files      Files
	Shims      Shims
	Sessions   Sessions
	Dialer     Dialer
	Images     Images
	Stats      Stats

	// Node is what the node has and its policy; Pool is its range of ids for user namespaces.
	Node security.Node
	Pool idmap.Pool
	// CDI is where the files of CDI devices are; the zero Registry has none.
	CDI cdi.Registry
	// Handlers are the runtime handlers that Status lists, by name; "" is the default.
	Handlers []spec.Handler
	Features spec.Features

	// Leaving is closed when the daemon begins to stop: attachments end, and that is not the end of their callers'
	// sessions. Default: when Close is called.
	Leaving <-chan struct{}

	Observe step.Observer
	// Ended is told of each container's end, once. It must not wait. Nil tells nobody.
	Ended func(spec.Exit)
	Log   *slog.Logger
	Now   Clock
}

// Runtime runs pods. Make one with New, call Recover once, then any method from any goroutine. Close stops its
// goroutines and touches nothing that runs.
type Runtime struct {
	Options
	store  state.Store
	bootID string

	flights flights
	events  bus
	// background are the goroutines that watch and remove; quit ends the waits among them.
	background sync.WaitGroup
	quit       context.Context
	cancel     context.CancelFunc

	mu         sync.Mutex
	pods       map[string]*pod       // by sandbox id
	podKeys    map[string]string     // spec.Metadata.Key → sandbox id
	containers map[string]*container // by container id
}

// New checks the directories. Nothing runs before Recover.
func New(o Options) (*Runtime, error) {
	boot, err := process.BootID()
	if err != nil {
		return nil, err
	}
	store, err := state.Open(o.Layout)
	if err != nil {
		return nil, err
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	quit, cancel := context.WithCancel(context.Background())
	if o.Leaving == nil {
		o.Leaving = quit.Done()
	}
	return &Runtime{
		Options: o, store: store, bootID: boot,
		quit: quit, cancel: cancel,
		pods: map[string]*pod{}, podKeys: map[string]string{},
		containers: map[string]*container{},
	}, nil
}

// Close ends the Runtime's own goroutines.
func (r *Runtime) Close() {
	r.cancel()
	r.background.Wait()
}

// pod is the memory of a sandbox.
type pod struct {
	spec spec.Sandbox
	// op serialises what changes the sandbox: its making, its stop, its removal. Containers come and go under it too,
	// so that a stopped sandbox gets no more of them. It is never held while a process is waited for.
	op lock
	// stopping is closed when a stop begins: creations and starts in flight give up.
	stopping     chan struct{}
	stoppingOnce sync.Once

	mu sync.Mutex // guards what follows
	// visible: it is ready, or was, or could not be undone. One that is being made is nobody's business yet: the kubelet
	// would collect it.
	visible    bool
	status     spec.SandboxStatus
	network    *spec.NetworkResult
	containers map[string]*container
	names      map[string]string // name/attempt → container id
}

// container is the memory of a container.
type container struct {
	spec spec.Container
	pod  *pod
	// op serialises start, the clearing away behind an end, and removal. It is never held while a process is waited for.
	op   lock
	done chan struct{} // closed when its end is recorded
	// halting is closed when a stop or a removal wants a start in flight to give up.
	halting     chan struct{}
	haltingOnce sync.Once

	mu    sync.Mutex
	facts spec.Facts
}

func newPod(s spec.Sandbox) *pod {
	return &pod{spec: s, op: newLock(), stopping: make(chan struct{}), containers: map[string]*container{}, names: map[string]string{}}
}

func newContainer(p *pod, s spec.Container) *container {
	return &container{spec: s, pod: p, op: newLock(), done: make(chan struct{}), halting: make(chan struct{})}
}

func (p *pod) stop() { p.stoppingOnce.Do(func() { close(p.stopping) }) }

func (c *container) halt() { c.haltingOnce.Do(func() { close(c.halting) }) }

func (p *pod) state(boot string) spec.SandboxState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.State(p.spec.BootID, boot)
}

func (p *pod) list() []*container {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*container, 0, len(p.containers))
	for _, c := range p.containers {
		all = append(all, c)
	}
	return all
}

func (c *container) read() spec.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.facts
}

func (c *container) change(f func(*spec.Facts)) spec.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.facts)
	return c.facts
}
