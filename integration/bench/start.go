package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/profiles/seccomp"
)

const (
	startRounds = 30
	layerRounds = 30
	crowd       = 50 // pods that start at once
	crowdRounds = 4
)

// begun is one start.
type begun struct{ wall, cpu time.Duration }

// measureStart compares Create+Start with runc run, each to the program's first instruction. What runc needs beforehand,
// the bundle and the mounted root file system, is there when its clock starts.
func (b *bench) measureStart(ctx context.Context) error {
	image, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	p, err := b.newPod(ctx)
	if err != nil {
		return err
	}
	peers, err := b.startPeers(ctx, p, image)
	if err != nil {
		return err
	}
	var ours begins
	theirs := make([]begins, len(peers))
	for round := range startRounds + 2 { // the first two warm the caches
		one, err := b.startOurs(ctx, p, image)
		if err != nil {
			return err
		}
		if round >= 2 {
			ours.add(one)
		}
		for i, peer := range peers {
			one, err := b.startPeer(peer)
			if err != nil {
				return err
			}
			if round >= 2 {
				theirs[i].add(one)
			}
		}
	}
	for _, peer := range peers {
		if err := peer.close(); err != nil {
			return err
		}
	}
	r := b.report
	r.section("start: Create+Start through the socket / runc run, to the program's first instruction, same pod, layers and mounts")
	r.figure("ours, wall", "ms", ours.wall)
	r.figure("ours, CPU of daemon, creator and container", "ms", ours.cpu)
	r.figure("runc run, default filter for three architectures, wall", "ms", theirs[0].wall)
	r.figure("runc run, default filter for three architectures, CPU", "ms", theirs[0].cpu)
	r.figure("runc run, our config.json's filter, wall", "ms", theirs[1].wall)
	r.figure("runc run, our config.json's filter, CPU", "ms", theirs[1].cpu)
	r.gate("ratio, three architectures, wall", ours.wall.over(theirs[0].wall), atMost, 0.6)
	r.gate("ratio, three architectures, CPU", ours.cpu.over(theirs[0].cpu), atMost, 0.6)
	r.figure("ratio, the same filter, wall (aim ≤ 1)", "", ours.wall.over(theirs[1].wall))
	r.figure("ratio, the same filter, CPU (aim ≤ 1)", "", ours.cpu.over(theirs[1].cpu))
	return b.removePod(ctx, p)
}

type begins struct{ wall, cpu series }

func (s *begins) add(one begun) {
	s.wall = append(s.wall, milliseconds(one.wall))
	s.cpu = append(s.cpu, milliseconds(one.cpu))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (b *bench) startOurs(ctx context.Context, p pod, image string) (begun, error) {
	before, err := b.cpu("ours")
	if err != nil {
		return begun{}, err
	}
	clock := monotonic()
	id, err := b.startContainer(ctx, p, "start", image, "start")
	if err != nil {
		return begun{}, err
	}
	first, err := firstInstruction(b.logOf(p, "start"))
	if err != nil {
		return begun{}, err
	}
	after, err := b.cpu("ours")
	if err != nil {
		return begun{}, err
	}
	return begun{wall: first - clock, cpu: after - before}, b.removeContainer(ctx, p, "start", id)
}

// firstInstruction reads what the probe wrote, from a log or a file.
func firstInstruction(path string) (time.Duration, error) {
	var ns int64
	err := until("a line in "+path, func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		_, said, ok := strings.Cut(string(text), "T ") // the log's own T is followed by an hour
		_, err = fmt.Sscanln(said, &ns)
		return ok && err == nil
	})
	return time.Duration(ns), err
}

// startPeers are bundles for runc in our pod: with the filter that containerd writes, and with ours.
func (b *bench) startPeers(ctx context.Context, p pod, image string) ([]*bundle, error) {
	model, err := b.startContainer(ctx, p, "model", image, "start")
	if err != nil {
		return nil, err
	}
	three, err := b.newBundle(p, model, "three")
	if err != nil {
		return nil, err
	}
	if three.spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(three.spec); err != nil {
		return nil, err
	}
	if n := len(three.spec.Linux.Seccomp.Architectures); n < 2 {
		return nil, fmt.Errorf("the default filter is for %d architecture on this machine", n)
	}
	same, err := b.newBundle(p, model, "same")
	if err != nil {
		return nil, err
	}
	return []*bundle{three, same}, errors.Join(three.write("start"), same.write("start"), b.removeContainer(ctx, p, "model", model))
}

func (b *bench) startPeer(peer *bundle) (begun, error) {
	if err := peer.renew(); err != nil {
		return begun{}, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return begun{}, err
	}
	defer r.Close()
	cmd := peer.runc("run", "--detach", "--bundle", peer.dir, peer.id)
	cmd.Stdout = w
	var before, clock time.Duration
	err = b.inGroup("peer", func() error {
		if before, err = b.cpu("peer"); err != nil {
			return err
		}
		clock = monotonic()
		return cmd.Start()
	})
	w.Close()
	if err != nil {
		return begun{}, err
	}
	var ns int64
	_, scan := fmt.Fscanf(r, "T %d\n", &ns)
	if err := cmd.Wait(); err != nil || scan != nil {
		said, _ := os.ReadFile(peer.complaints)
		return begun{}, errors.Join(fmt.Errorf("runc run: %s", said), err, scan)
	}
	after, err := b.cpu("peer")
	if err != nil {
		return begun{}, err
	}
	if out, err := peer.runc("delete", "--force", peer.id).Output(); err != nil {
		return begun{}, fmt.Errorf("runc delete: %w %s", err, out)
	}
	_, err = io.Copy(io.Discard, r) // to the end: the container is gone
	return begun{wall: time.Duration(ns) - clock, cpu: after - before}, err
}

// measureLayers compares images of many and few layers, one start after the other and many at once.
func (b *bench) measureLayers(ctx context.Context) error {
	few, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	many, err := b.image(ctx, "bench/fifty:1", 50)
	if err != nil {
		return err
	}
	p, err := b.newPod(ctx)
	if err != nil {
		return err
	}
	var one, fifty begins
	for round := range layerRounds + 1 {
		a, err := b.startOurs(ctx, p, few)
		if err != nil {
			return err
		}
		z, err := b.startOurs(ctx, p, many)
		if err != nil {
			return err
		}
		if round > 0 {
			one.add(a)
			fifty.add(z)
		}
	}
	if err := b.removePod(ctx, p); err != nil {
		return err
	}
	var crowdFew, crowdMany series
	type side struct {
		image string
		to    *series
	}
	for round := range crowdRounds {
		sides := []side{{few, &crowdFew}, {many, &crowdMany}}
		if round%2 == 1 {
			slices.Reverse(sides) // who comes second meets what the first has left to the kernel to clean up
		}
		for _, side := range sides {
			took, err := b.startCrowd(ctx, side.image)
			if err != nil {
				return err
			}
			*side.to = append(*side.to, took.median())
		}
	}
	r := b.report
	r.section("layers: start of an image of 50 layers / of 2 layers")
	r.figure("2 layers, wall", "ms", one.wall)
	r.figure("50 layers, wall", "ms", fifty.wall)
	r.gate("ratio, one at a time", fifty.wall.over(one.wall), atMost, 1.2)
	r.figure("ratio, one at a time, CPU", "", fifty.cpu.over(one.cpu))
	r.figure("2 layers, 50 pods at once, median of each round", "ms", crowdFew)
	r.figure("50 layers, 50 pods at once, median of each round", "ms", crowdMany)
	r.gate("ratio, 50 pods at once", crowdMany.over(crowdFew), atMost, 1.2)
	return nil
}

// startCrowd makes pods, starts a container in each at once, and takes all down.
func (b *bench) startCrowd(ctx context.Context, image string) (series, error) {
	pods := make([]pod, crowd)
	for i := range pods {
		var err error
		if pods[i], err = b.newPod(ctx); err != nil {
			return nil, err
		}
	}
	took := make(series, crowd)
	err := together(crowd, func(i int) error {
		clock := monotonic()
		if _, err := b.startContainer(ctx, pods[i], "start", image, "start"); err != nil {
			return err
		}
		first, err := firstInstruction(b.logOf(pods[i], "start"))
		took[i] = milliseconds(first - clock)
		return err
	})
	if err != nil {
		return nil, err
	}
	return took, together(crowd, func(i int) error {
		return errors.Join(b.removePod(ctx, pods[i]), os.Remove(b.logOf(pods[i], "start")))
	})
}

// together does n things at once.
func together(n int, do func(i int) error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = do(i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}
