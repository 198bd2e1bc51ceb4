package network

import (
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	nlsock "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// watch starts the goroutine that restores the tables after somebody flushed them, as reloading a host's firewall does.
// It ends with Close.
func (n *Network) watch() error {
	c, err := nlsock.Dial(unix.NETLINK_NETFILTER, &nlsock.Config{NetNS: int(n.own)})
	if err == nil {
		err = c.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return spec.Errorf(errdefs.ErrUnavailable, "watch nftables: %w", err)
	}
	deleted := make(chan struct{}, 1)
	n.wait.Add(2)
	go func() {
		defer n.wait.Done()
		listen(c, deleted)
	}()
	go func() {
		defer n.wait.Done()
		n.repairLoop(deleted)
		c.Close()
	}()
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
func (t *transactor) intact(r *ruleset) bool {
	c, err := t.open()
	if err != nil {
		return false
	}
	want := map[*nftables.Chain]int{}
	for _, rule := range r.rules {
		want[rule.Chain]++
	}
	for _, ch := range r.chains {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			t.drop()
			return false
		}
		if len(rules) != want[ch] {
			return false
		}
	}
	return true
}

// isTransient: the socket's buffer was full, so events were lost, but more will come.
func isTransient(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR)
}
