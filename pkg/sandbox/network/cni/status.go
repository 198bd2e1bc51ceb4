package cni

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/runtimed/runtimed/pkg/sandbox/network/cni/conf"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// statusTime bounds a STATUS of all plugins.
	statusTime = 10 * time.Second
	// soon is how old a bad answer may be: nodes wait for the good one.
	soon = 2 * time.Second
)

// state is what is known of the network as a whole; guarded by Network.mu.
type state struct {
	condition spec.Condition
	asked     time.Time // when the last look ended
	looking   bool
	again     bool // something changed while it was looked at
}

// reason is the word that kubelets and people look for.
const reason = "NetworkPluginNotReady"

func notReady(err error) spec.Condition {
	return spec.Condition{Reason: reason, Message: err.Error()}
}

// Condition is what the last look found. It waits for nothing; an answer that is old has the next look begin.
func (n *Network) Condition() spec.Condition {
	n.mu.Lock()
	defer n.mu.Unlock()
	age := n.cfg.StatusInterval
	if !n.state.condition.OK {
		age = min(age, soon)
	}
	if n.recovered && !n.state.looking && time.Since(n.state.asked) > age {
		n.lookBehind()
	}
	return n.state.condition
}

// lookBehind has a look in the background. The caller holds mu.
func (n *Network) lookBehind() {
	if n.ctx.Err() != nil {
		return
	}
	n.state.looking = true
	n.wait.Go(func() { n.look(true) })
}

// look finds out whether pods can be connected; ask has the plugins asked too (STATUS), which takes their time.
func (n *Network) look(ask bool) {
	network, err := n.load()
	if err == nil {
		err = n.present(network)
	}
	if err == nil && network.Speaks("1.1.0") {
		if ask {
			err = n.status(n.ctx, network)
		} else {
			err = fmt.Errorf("the plugins of %s have not been asked yet (STATUS)", network.File)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.state.condition
	n.state.condition = spec.Condition{OK: true}
	if err != nil {
		n.state.condition = notReady(err)
	}
	n.state.asked = time.Now()
	n.state.looking = false
	if n.state.again {
		n.state.again = false
		n.lookBehind()
	}
	if !ask {
		n.state.asked = time.Time{} // the first question has the plugins asked
	}
	if n.ctx.Err() == nil && was != n.state.condition {
		n.log.Info("the network's state", "ready", n.state.condition.OK, "message", n.state.condition.Message)
	}
}

// load reads the configuration as it is now.
func (n *Network) load() (*conf.Network, error) { return conf.Load(n.cfg.ConfDir) }

// present names the plugins that are not there.
func (n *Network) present(network *conf.Network) error {
	var missing []error
	for _, name := range network.Programs() {
		if _, err := n.exec.FindInPath(name, n.cfg.BinDirs); err != nil {
			missing = append(missing, err)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("network configuration %s: %w", network.File, err)
	}
	return nil
}

// status asks the plugins whether they can connect pods (CNI specification 1.1, STATUS).
func (n *Network) status(ctx context.Context, network *conf.Network) error {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	err := n.cni.GetStatusNetworkList(ctx, network.List)
	if err == nil {
		return nil
	}
	what := "is not ready"
	if said := (*types.Error)(nil); errors.As(err, &said) {
		switch said.Code {
		case types.ErrPluginNotAvailable:
			what = "cannot connect pods now"
		case types.ErrLimitedConnectivity:
			what = "cannot connect pods now, and those that are have limited connectivity"
		}
	}
	return fmt.Errorf("network %s (%s) %s: %w", network.List.Name, network.File, what, err)
}
