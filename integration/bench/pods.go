package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	podRounds   = 30
	clients     = 10
	podsOfEach  = 6
	memoryPods  = 20
	memoryBytes = 100 << 20
)

// measurePods is a pod's life with the built-in network: to running, a command in it, and down.
func (b *bench) measurePods(ctx context.Context) error {
	image, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	var up, upCPU, down, execs series
	for round := range podRounds + 1 {
		one, err := b.podLife(ctx, image)
		if err != nil {
			return err
		}
		if round > 0 {
			up, upCPU, down, execs = append(up, one.up), append(upCPU, one.cpu), append(down, one.down), append(execs, one.exec)
		}
	}
	var many, removed series
	for range 3 {
		rise, fall, err := b.podsAtOnce(ctx, image)
		if err != nil {
			return err
		}
		many, removed = append(many, rise), append(removed, fall)
	}
	r := b.report
	r.section("pods: RunPodSandbox, Create and Start, with user namespace, seccomp and the built-in network")
	r.figure("pod to running, 1 client", "ms", up)
	r.figure("CPU of one pod, start and stop, all processes", "ms", upCPU)
	r.figure("ExecSync of true", "ms", execs)
	r.figure("stop and remove, 1 client", "ms", down)
	r.figure(fmt.Sprintf("%d clients, started", clients), "pods/s", many)
	r.figure(fmt.Sprintf("%d clients, stopped and removed", clients), "pods/s", removed)
	return nil
}

type life struct{ up, exec, down, cpu float64 }

func (b *bench) podLife(ctx context.Context, image string) (life, error) {
	before, err := b.cpu("ours")
	if err != nil {
		return life{}, err
	}
	clock := monotonic()
	p, err := b.newPod(ctx)
	if err != nil {
		return life{}, err
	}
	id, err := b.startContainer(ctx, p, "start", image, "start")
	if err != nil {
		return life{}, err
	}
	var one life
	one.up = milliseconds(monotonic() - clock)
	between, err := b.cpu("ours")
	if err != nil {
		return life{}, err
	}
	clock = monotonic()
	if err := b.exec(ctx, id); err != nil {
		return life{}, err
	}
	one.exec = milliseconds(monotonic() - clock)
	resumed, err := b.cpu("ours")
	if err != nil {
		return life{}, err
	}
	clock = monotonic()
	if err := b.removePod(ctx, p); err != nil {
		return life{}, err
	}
	one.down = milliseconds(monotonic() - clock)
	after, err := b.cpu("ours")
	one.cpu = milliseconds(between - before + after - resumed)
	return one, errors.Join(err, os.Remove(b.logOf(p, "start")))
}

func (b *bench) exec(ctx context.Context, id string) error {
	r, err := b.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/probe", "true"}, Timeout: 10})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("true ended with %d: %s", r.ExitCode, r.Stderr)
	}
	return err
}

// podsAtOnce has each client start its pods one after the other, and then remove them; both in pods per second.
func (b *bench) podsAtOnce(ctx context.Context, image string) (rise, fall float64, err error) {
	configs := make([]*runtimeapi.PodSandboxConfig, clients*podsOfEach)
	for i := range configs {
		configs[i] = b.newConfig()
	}
	var mu sync.Mutex
	pods := map[int][]pod{}
	clock := monotonic()
	err = together(clients, func(client int) error {
		for _, config := range configs[client*podsOfEach : (client+1)*podsOfEach] {
			p, err := b.runPod(ctx, config)
			if err != nil {
				return err
			}
			if _, err := b.startContainer(ctx, p, "start", image, "start"); err != nil {
				return err
			}
			mu.Lock()
			pods[client] = append(pods[client], p)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	rise = float64(len(configs)) / (monotonic() - clock).Seconds()
	clock = monotonic()
	err = together(clients, func(client int) error {
		for _, p := range pods[client] {
			if err := errors.Join(b.removePod(ctx, p), os.Remove(b.logOf(p, "start"))); err != nil {
				return err
			}
		}
		return nil
	})
	return rise, float64(len(configs)) / (monotonic() - clock).Seconds(), err
}

// measureMemory is what stays beside each container, after a log and a command.
func (b *bench) measureMemory(ctx context.Context) error {
	image, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	pods := make([]pod, memoryPods)
	for i := range pods {
		if pods[i], err = b.newPod(ctx); err != nil {
			return err
		}
		id, err := b.startContainer(ctx, pods[i], "start", image, "write", fmt.Sprint(memoryBytes), "1024")
		if err != nil {
			return err
		}
		if _, err := follow(b.logOf(pods[i], "start"), b.pid); err != nil {
			return err
		}
		if err := errors.Join(os.Truncate(b.logOf(pods[i], "start"), 0), b.exec(ctx, id)); err != nil {
			return err
		}
	}
	var pss, private series
	others, err := b.ours()
	if err != nil {
		return err
	}
	for _, pid := range others {
		m, err := memoryOf(pid)
		if err != nil {
			return err
		}
		pss, private = append(pss, m.pss), append(private, m.private)
	}
	daemon, err := memoryOf(fmt.Sprint(b.pid))
	if err != nil {
		return err
	}
	r := b.report
	r.section(fmt.Sprintf("memory: %d pods of one container, after %d MiB logged and one exec each", memoryPods, memoryBytes>>20))
	r.figure("our processes beside a container", "", series{float64(len(others)) / memoryPods})
	r.gate("PSS of one, MiB", pss, atMost, 1)
	r.gate("private dirty of one, MiB", private, atMost, 1)
	r.figure("daemon, PSS", "MiB", series{daemon.pss})
	return together(memoryPods, func(i int) error {
		return errors.Join(b.removePod(ctx, pods[i]), os.Remove(b.logOf(pods[i], "start")))
	})
}

// ours are all processes of ours but the daemon.
func (b *bench) ours() ([]string, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err == nil && strings.HasPrefix(string(comm), "runtimed-") {
			pids = append(pids, filepath.Base(filepath.Dir(name)))
		}
	}
	return pids, nil
}

type memory struct{ pss, private float64 } // MiB

func memoryOf(pid string) (memory, error) {
	f, err := os.Open("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return memory{}, err
	}
	defer f.Close()
	var m memory
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(lines.Text(), "Pss: %f kB", &kib); n == 1 {
			m.pss = kib / 1024
		}
		if n, _ := fmt.Sscanf(lines.Text(), "Private_Dirty: %f kB", &kib); n == 1 {
			m.private = kib / 1024
		}
	}
	return m, nil
}
