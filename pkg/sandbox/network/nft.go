package network

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	nlsock "github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/network/ruleset"
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// transactor sends nftables batches, one at a time: the kernel commits one at a time too. Each batch is one
// transaction.
type transactor struct {
	ns   netns.NsHandle
	mu   sync.Mutex
	conn *nftables.Conn
}

// batch calls f to fill a transaction and commits it. The caller holds mu.
func (t *transactor) batch(f func(c *nftables.Conn) error) error {
	c, err := t.open()
	if err != nil {
		return err
	}
	if err = f(c); err == nil {
		err = c.Flush()
	}
	if err != nil {
		// Replies of a batch that was given up may still come: never read them as those of the next.
		t.drop()
	}
	return err
}

func (t *transactor) open() (*nftables.Conn, error) {
	if t.conn != nil {
		return t.conn, nil
	}
	c, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(t.ns)))
	if err != nil {
		return nil, spec.Errorf(errdefs.ErrUnavailable, "nftables socket: %w", err)
	}
	t.conn = c
	return c, nil
}

func (t *transactor) drop() {
	if t.conn != nil {
		t.conn.CloseLasting()
		t.conn = nil
	}
}

func (t *transactor) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
}

// addElements puts the pod's elements into the tables. Where that fails, whatever the reason, both tables are
// replaced by what memory says.
func (n *Network) addElements(p *pod) error {
	return n.changeElements(p, n.rules.Put)
}

// deleteElements takes them out. The pod is already marked as without rules.
func (n *Network) deleteElements(p *pod) error {
	return n.changeElements(p, n.rules.Take)
}

func (n *Network) changeElements(p *pod, change func(*nftables.Conn, ruleset.Elements) error) error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	n.mu.Lock()
	elements, ready := n.rules.Elements(n.view(p)), n.recovered
	n.mu.Unlock()
	err := n.nft.batch(func(c *nftables.Conn) error { return change(c, elements) })
	if err == nil || !ready {
		return err
	}
	n.log.Warn("nftables tables are not what they were; replacing them", "table", n.cfg.Table, "error", err)
	return n.rebuildLocked()
}

// rebuild replaces both tables, in one transaction, by what memory says.
func (n *Network) rebuild() error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	return n.rebuildLocked()
}

func (n *Network) rebuildLocked() error {
	n.mu.Lock()
	elements := ruleset.Elements{}
	for _, p := range n.pods {
		if !p.rules {
			continue
		}
		for s, es := range n.rules.Elements(n.view(p)) {
			elements[s] = append(elements[s], es...)
		}
	}
	n.mu.Unlock()
	err := n.nft.batch(func(c *nftables.Conn) error { return n.rules.Write(c, elements) })
	if err != nil {
		err = spec.Errorf(errdefs.ErrUnavailable, "nftables table %q: %w; does the kernel have nf_tables with nat, masq and fib for inet, and the bridge family?", n.cfg.Table, err)
	}
	n.fault("NftablesFailed", err)
	return err
}

// deleteStrangers removes the elements of a sandbox that memory does not know, by their comments.
func (n *Network) deleteStrangers(id string) error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	found, err := n.nft.elements(n.rules, func(owner string) bool { return owner == id })
	if err != nil || len(found) == 0 {
		return err
	}
	return n.nft.batch(func(c *nftables.Conn) error { return n.rules.Take(c, found) })
}

// elements lists the tables' elements whose owner, the comment, is wanted. Tables that are not there have none. The
// caller holds mu.
func (t *transactor) elements(r *ruleset.Ruleset, want func(owner string) bool) (ruleset.Elements, error) {
	c, err := t.open()
	if err != nil {
		return nil, err
	}
	out := ruleset.Elements{}
	for _, s := range r.Sets {
		es, err := c.GetSetElements(s)
		// The library keeps the text of an error alone.
		if err != nil && strings.HasSuffix(err.Error(), unix.ENOENT.Error()) {
			continue
		}
		if err != nil {
			t.drop()
			return nil, spec.Errorf(errdefs.ErrUnavailable, "nftables set %q: %w", s.Name, err)
		}
		for _, e := range es {
			if want(e.Comment) {
				out[s] = append(out[s], e)
			}
		}
	}
	return out, nil
}

// view is what the tables hold of the pod. The caller holds mu.
func (n *Network) view(p *pod) ruleset.Pod {
	return ruleset.Pod{ID: p.id, Link: n.cfg.VethName(p.id), MAC: p.mac(), Addrs: p.addrs, Ports: p.ports}
}

// watch starts the goroutine that restores the tables after somebody flushed them, as reloading a host's firewall does.
// It ends with Close. Where it runs already, nothing is done.
func (n *Network) watch() error {
	n.mu.Lock()
	running := n.watching
	n.mu.Unlock()
	if running {
		return nil
	}
	c, err := nlsock.Dial(unix.NETLINK_NETFILTER, &nlsock.Config{NetNS: int(n.own)})
	if err == nil {
		err = c.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "watch nftables: %w", err)
	}
	n.mu.Lock()
	n.watching = true
	n.mu.Unlock()
	deleted := make(chan struct{}, 1)
	n.wait.Go(func() { listen(c, deleted) })
	n.wait.Go(func() {
		n.repairLoop(deleted)
		c.Close()
	})
	return nil
}

// listen reports every deletion of a table, chain or rule. Elements, which come and go with pods, are not looked at.
func listen(c *nlsock.Conn, deleted chan<- struct{}) {
	defer close(deleted)
	for {
		msgs, err := c.Receive()
		lost := err != nil
		if lost && !isTransient(err) {
			return
		}
		for _, m := range msgs {
			switch m.Header.Type & 0xff {
			case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
				lost = true
			}
		}
		if lost {
			select {
			case deleted <- struct{}{}:
			default:
			}
		}
	}
}

func (n *Network) repairLoop(deleted <-chan struct{}) {
	for {
		select {
		case <-n.ctx.Done():
			return
		case _, ok := <-deleted:
			if !ok {
				n.log.Warn("nftables can no longer be watched; a flushed table is restored with the next pod")
				return
			}
		}
		// A reload deletes and adds many things; looking once, after it, is enough.
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
		if err := n.Repair(); err != nil {
			n.log.Error("nftables tables were changed and could not be restored", "table", n.cfg.Table, "error", err)
		}
	}
}

// Repair replaces the tables where a chain or a rule of them is missing.
func (n *Network) Repair() error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	n.mu.Lock()
	ready := n.recovered
	n.mu.Unlock()
	if !ready || n.nft.intact(n.rules) {
		return nil
	}
	n.log.Warn("somebody deleted nftables rules of this daemon; restoring them", "table", n.cfg.Table)
	return n.rebuildLocked()
}

// intact tells whether every chain has all of its rules. The caller holds mu.
func (t *transactor) intact(r *ruleset.Ruleset) bool {
	c, err := t.open()
	if err != nil {
		return false
	}
	for ch, want := range r.Counts() {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			t.drop()
			return false
		}
		if len(rules) != want {
			return false
		}
	}
	return true
}

// isTransient: the socket's buffer was full, so events were lost, but more will come.
func isTransient(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR)
}
