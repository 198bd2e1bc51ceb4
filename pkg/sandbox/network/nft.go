package network

import (
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/vishvananda/netns"

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
	return n.changeElements(p, (*nftables.Conn).SetAddElements)
}

// deleteElements takes them out. The pod is already marked as without rules.
func (n *Network) deleteElements(p *pod) error {
	return n.changeElements(p, (*nftables.Conn).SetDeleteElements)
}

func (n *Network) changeElements(p *pod, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	n.mu.Lock()
	elements, ready := n.rules.elements(n.cfg, p), n.recovered
	n.mu.Unlock()
	err := n.nft.batch(func(c *nftables.Conn) error {
		for _, s := range n.rules.sets {
			if es := elements[s]; len(es) > 0 {
				if err := change(c, s, es); err != nil {
					return err
				}
			}
		}
		return nil
	})
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
	elements := map[*nftables.Set][]nftables.SetElement{}
	for _, p := range n.pods {
		if !p.rules {
			continue
		}
		for s, es := range n.rules.elements(n.cfg, p) {
			elements[s] = append(elements[s], es...)
		}
	}
	n.mu.Unlock()
	err := n.nft.batch(func(c *nftables.Conn) error { return n.rules.write(c, elements) })
	if err != nil {
		err = spec.Errorf(errdefs.ErrUnavailable, "nftables table %q: %w; does the kernel have nf_tables with nat, masq and fib for inet, and the bridge family?", n.cfg.Table, err)
	}
	n.setCondition("NftablesFailed", err)
	return err
}

// write fills a batch that replaces both tables.
func (r *ruleset) write(c *nftables.Conn, elements map[*nftables.Set][]nftables.SetElement) error {
	r.delete(c)
	c.AddTable(r.inet)
	c.AddTable(r.bridge)
	for _, ch := range r.chains {
		c.AddChain(ch)
	}
	for _, s := range r.sets {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
		// A list of elements is one attribute, of at most 64 KiB.
		for part := range slices.Chunk(elements[s], 128) {
			if err := c.SetAddElements(s, part); err != nil {
				return err
			}
		}
	}
	for _, rule := range r.rules {
		c.AddRule(rule)
	}
	return nil
}

// delete adds first, because deleting what is not there fails the batch.
func (r *ruleset) delete(c *nftables.Conn) {
	for _, t := range []*nftables.Table{r.inet, r.bridge} {
		c.AddTable(t)
		c.DelTable(t)
	}
}

// deleteStrangers removes the elements of a sandbox that memory does not know, by their comments.
func (n *Network) deleteStrangers(id string) error {
	n.nft.mu.Lock()
	defer n.nft.mu.Unlock()
	found, err := n.nft.elements(n.rules, func(owner string) bool { return owner == id })
	if err != nil || len(found) == 0 {
		return err
	}
	return n.nft.batch(func(c *nftables.Conn) error {
		for s, es := range found {
			if err := c.SetDeleteElements(s, es); err != nil {
				return err
			}
		}
		return nil
	})
}

// elements lists the tables' elements whose owner, the comment, is wanted. Tables that are not there have none. The
// caller holds mu.
func (t *transactor) elements(r *ruleset, want func(owner string) bool) (map[*nftables.Set][]nftables.SetElement, error) {
	c, err := t.open()
	if err != nil {
		return nil, err
	}
	out := map[*nftables.Set][]nftables.SetElement{}
	for _, s := range r.sets {
		es, err := c.GetSetElements(s)
		if isNotExist(err) {
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
