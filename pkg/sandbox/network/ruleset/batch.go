package ruleset

import (
	"slices"

	"github.com/google/nftables"
)

// Write fills a batch that replaces both tables.
func (r *Ruleset) Write(c *nftables.Conn, elements Elements) error {
	r.Delete(c)
	c.AddTable(r.inet)
	c.AddTable(r.bridge)
	for _, ch := range r.Chains {
		c.AddChain(ch)
	}
	for _, s := range r.Sets {
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
	for _, rule := range r.Rules {
		c.AddRule(rule)
	}
	return nil
}

// Delete fills a batch that removes both tables. It adds first, because deleting what is not there fails the batch.
func (r *Ruleset) Delete(c *nftables.Conn) {
	for _, t := range []*nftables.Table{r.inet, r.bridge} {
		c.AddTable(t)
		c.DelTable(t)
	}
}

// Put fills a batch that adds elements, Take one that deletes them.
func (r *Ruleset) Put(c *nftables.Conn, elements Elements) error {
	return r.each(elements, c.SetAddElements)
}

// Take fills a batch that deletes elements. One that is not there fails the batch.
func (r *Ruleset) Take(c *nftables.Conn, elements Elements) error {
	return r.each(elements, c.SetDeleteElements)
}

func (r *Ruleset) each(elements Elements, f func(*nftables.Set, []nftables.SetElement) error) error {
	for _, s := range r.Sets {
		if es := elements[s]; len(es) > 0 {
			if err := f(s, es); err != nil {
				return err
			}
		}
	}
	return nil
}

// Counts is the number of rules that each chain has.
func (r *Ruleset) Counts() map[*nftables.Chain]int {
	out := map[*nftables.Chain]int{}
	for _, c := range r.Chains {
		out[c] = 0
	}
	for _, rule := range r.Rules {
		out[rule.Chain]++
	}
	return out
}
