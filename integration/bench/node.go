package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	nodePods  = 50
	fewPods   = 10
	questions = 200
	idle      = 60 * time.Second
	polling   = 10 * time.Second // as the kubelet asks
)

// measureNode is what everything of ours costs a node with no, ten and fifty pods: memory, idle processor time, and answers
// to whoever asks for statistics.
func (b *bench) measureNode(ctx context.Context) error {
	image, err := b.image(ctx, "bench/two:1", 2)
	if err != nil {
		return err
	}
	b.report.section(fmt.Sprintf("node: everything of ours with 0, %d and %d pods of one container", fewPods, nodePods))
	pods := make([]pod, nodePods)
	have := 0
	for _, want := range []int{0, fewPods, nodePods} {
		first := have
		err := together(want-have, func(i int) (err error) {
			if pods[first+i], err = b.runPod(ctx, b.configs(first+i)); err != nil {
				return err
			}
			_, err = b.startContainer(ctx, pods[first+i], "start", image, "start")
			return err
		})
		if err != nil {
			return err
		}
		have = want
		if err := b.nodeMemory(have); err != nil {
			return err
		}
	}
	if err := b.statsLatency(ctx); err != nil {
		return err
	}
	if err := b.idleCPU(ctx); err != nil {
		return err
	}
	return together(have, func(i int) error {
		return errors.Join(b.removePod(ctx, pods[i]), os.Remove(b.logOf(pods[i], "start")))
	})
}

// configs numbers a pod by itself, because pods are made at one time.
func (b *bench) configs(i int) *runtimeapi.PodSandboxConfig {
	name := fmt.Sprintf("node-%d", i)
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		Hostname: name, LogDirectory: b.dir + "/logs",
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: b.groups + "/ours/kubelet/" + name,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// nodeMemory is the daemon and what stands beside the containers, after a moment of rest.
func (b *bench) nodeMemory(pods int) error {
	time.Sleep(3 * time.Second)
	daemon, err := memoryOf(fmt.Sprint(b.pid))
	if err != nil {
		return err
	}
	others, err := b.ours()
	if err != nil {
		return err
	}
	all := daemon.pss
	for _, pid := range others {
		m, err := memoryOf(pid)
		if err != nil {
			return err
		}
		all += m.pss
	}
	b.report.figure(fmt.Sprintf("%d pods: PSS of everything", pods), "MiB", series{all})
	b.report.figure(fmt.Sprintf("%d pods: PSS of the daemon", pods), "MiB", series{daemon.pss})
	return nil
}

// statsLatency asks again and again.
func (b *bench) statsLatency(ctx context.Context) error {
	var list, pods, metrics series
	for round := range questions + 1 {
		begin := monotonic()
		l, err := b.runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
		if err != nil || len(l.Stats) != nodePods {
			return fmt.Errorf("%d containers are told of: %w", len(l.GetStats()), err)
		}
		one := monotonic()
		if _, err := b.runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{}); err != nil {
			return err
		}
		two := monotonic()
		if _, err := b.runtime.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{}); err != nil {
			return err
		}
		if round > 0 { // the first measures writable layers
			list, pods, metrics = append(list, milliseconds(one-begin)), append(pods, milliseconds(two-one)), append(metrics, milliseconds(monotonic()-two))
		}
	}
	b.report.gate(fmt.Sprintf("ListContainerStats of %d, ms", nodePods), list, atMost, 10)
	b.report.figure("the same, p99", "ms", series{list.at(0.99)})
	b.report.figure(fmt.Sprintf("ListPodSandboxStats of %d", nodePods), "ms", pods)
	b.report.figure(fmt.Sprintf("ListPodSandboxMetrics of %d", nodePods), "ms", metrics)
	return nil
}

// idleCPU is what everything below our group uses while nobody asks, and while somebody asks as often as a kubelet. The
// first begins when the daemon has given up keeping fresh what was asked before.
func (b *bench) idleCPU(ctx context.Context) error {
	time.Sleep(135 * time.Second)
	alone, err := b.cpuWhile(func() error { time.Sleep(idle); return nil })
	if err != nil {
		return err
	}
	asked, err := b.cpuWhile(func() error {
		for end := time.Now().Add(idle); time.Now().Before(end); time.Sleep(polling) {
			if _, err := b.runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.report.gate(fmt.Sprintf("idle CPU of everything with %d pods, %% of a core", nodePods), series{alone}, atMost, 0.1)
	b.report.figure("the same, with ListPodSandboxStats every 10 s", "% of a core", series{asked})
	return nil
}

// cpuWhile is the share of a core, in percent.
func (b *bench) cpuWhile(f func() error) (float64, error) {
	before, err := b.cpu("ours")
	if err != nil {
		return 0, err
	}
	begin := monotonic()
	if err := f(); err != nil {
		return 0, err
	}
	after, err := b.cpu("ours")
	return 100 * float64(after-before) / float64(monotonic()-begin), err
}
