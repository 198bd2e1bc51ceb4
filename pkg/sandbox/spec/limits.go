package spec

// LimitWrite is one value of a group, or of its processes, that is to change.
type LimitWrite struct {
	// File is where: an absolute path of an interface file, or "oom_score_adj" for the processes of the group.
	File string
	// Old is what it held when the change was planned, New what it is to hold. They are in the form that the file reads
	// and takes.
	Old, New string
}

// LimitChange is one change of a container's limits: what is written, in this order, and what the limits are in the
// request's own words before and behind it.
type LimitChange struct {
	Writes        []LimitWrite
	Before, After Resources
}

// Merge returns r with what is asked for in place of what was: zero fields leave things as they are, as UpdateContainerResources
// says. A new limit on memory without a word on swap keeps the room for swap that there was.
func (r Resources) Merge(asked Resources) Resources {
	pick := func(old *int64, now int64) {
		if now != 0 {
			*old = now
		}
	}
	if asked.MemoryLimit != 0 && asked.MemorySwap == 0 && r.MemorySwap > 0 {
		r.MemorySwap += asked.MemoryLimit - r.MemoryLimit
	}
	pick(&r.CPUPeriod, asked.CPUPeriod)
	pick(&r.CPUQuota, asked.CPUQuota)
	pick(&r.CPUShares, asked.CPUShares)
	pick(&r.MemoryLimit, asked.MemoryLimit)
	pick(&r.MemorySwap, asked.MemorySwap)
	pick(&r.OOMScoreAdj, asked.OOMScoreAdj)
	if asked.CPUSetCPUs != "" {
		r.CPUSetCPUs = asked.CPUSetCPUs
	}
	if asked.CPUSetMems != "" {
		r.CPUSetMems = asked.CPUSetMems
	}
	r.HugepageLimits = mergeHugepages(r.HugepageLimits, asked.HugepageLimits)
	unified := make(map[string]string, len(r.Unified)+len(asked.Unified))
	for _, m := range []map[string]string{r.Unified, asked.Unified} {
		for k, v := range m {
			unified[k] = v
		}
	}
	if r.Unified = unified; len(unified) == 0 {
		r.Unified = nil
	}
	return r
}

// mergeHugepages never changes a list that is shared.
func mergeHugepages(old, asked []HugepageLimit) []HugepageLimit {
	var out []HugepageLimit
	for _, h := range old {
		for _, a := range asked {
			if a.PageSize == h.PageSize {
				h.Limit = a.Limit
			}
		}
		out = append(out, h)
	}
	for _, a := range asked {
		known := false
		for _, h := range old {
			known = known || h.PageSize == a.PageSize
		}
		if !known {
			out = append(out, a)
		}
	}
	return out
}
