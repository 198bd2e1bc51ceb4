package sandbox

import (
	"github.com/runtimed/runtimed/pkg/sandbox/spec"
	"github.com/runtimed/runtimed/pkg/security/idmap"
)

// reserveIDs makes sure that no two pods have an id of the node in common: it gives the pod a range of the node's pool
// where it needs one, and refuses maps of the request that overlap another pod's. A pod holds its ids from here, before
// its record is written, until nothing of it is left. The caller holds r.mu.
func (r *Runtime) reserveIDs(p *pod) error {
	profile := &p.spec.Profile
	if !profile.UserNamespace {
		return nil
	}
	if len(profile.UIDs) > 0 {
		return r.checkMaps(p)
	}
	var taken []idmap.Range
	for _, other := range r.pods {
		taken = append(taken, idmap.Ranges(other.spec.Profile.UIDs, other.spec.Profile.GIDs)...)
	}
	rng, err := r.Pool.Allocate(taken)
	if err != nil {
		return err
	}
	profile.UIDs, profile.GIDs = rng.Map(), rng.Map()
	return nil
}

// checkMaps lets attempts of the same pod share ids: the kubelet keeps a pod's range for as long as it knows the pod.
func (r *Runtime) checkMaps(p *pod) error {
	for _, other := range r.pods {
		if samePod(other.spec.Request.Metadata, p.spec.Request.Metadata) {
			continue
		}
		have, want := other.spec.Profile, p.spec.Profile
		if overlap(have.UIDs, want.UIDs) || overlap(have.GIDs, want.GIDs) {
			return spec.Preconditionf(
				"security.namespace_options.userns_options: the maps have ids in common with those of sandbox %s: remove that, or give this pod others",
				other.spec.ID)
		}
	}
	return nil
}

func samePod(a, b spec.Metadata) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && a.UID == b.UID
}

func overlap(a, b []spec.IDMapping) bool {
	for _, x := range idmap.Ranges(a) {
		for _, y := range idmap.Ranges(b) {
			if x.Overlaps(y) {
				return true
			}
		}
	}
	return false
}
