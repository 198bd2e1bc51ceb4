package spec

import (
	"reflect"
	"testing"
)

func TestMergeLeavesWhatIsNotAskedFor(t *testing.T) {
	full := Resources{
		CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, MemoryLimit: 100, MemorySwap: 150, CPUSetCPUs: "0-1", CPUSetMems: "0", OOMScoreAdj: 900,
		HugepageLimits: []HugepageLimit{{"2MB", 4}, {"1GB", 8}}, Unified: map[string]string{"pids.max": "10"},
	}
	for name, c := range map[string]struct{ old, asked, want Resources }{
		"nothing":           {full, Resources{}, full},
		"all, of nothing":   {Resources{}, full, full},
		"one number":        {Resources{CPUShares: 2, CPUQuota: 3}, Resources{CPUShares: 7}, Resources{CPUShares: 7, CPUQuota: 3}},
		"no quota any more": {Resources{CPUQuota: 3}, Resources{CPUQuota: -1}, Resources{CPUQuota: -1}},
		// The room for swap, 50, stays.
		"memory alone":        {Resources{MemoryLimit: 100, MemorySwap: 150}, Resources{MemoryLimit: 300}, Resources{MemoryLimit: 300, MemorySwap: 350}},
		"memory, swap as is":  {Resources{MemoryLimit: 100, MemorySwap: -1}, Resources{MemoryLimit: 300}, Resources{MemoryLimit: 300, MemorySwap: -1}},
		"memory, swap unsaid": {Resources{MemoryLimit: 100}, Resources{MemoryLimit: 50}, Resources{MemoryLimit: 50}},
		"memory and swap":     {Resources{MemoryLimit: 100, MemorySwap: 150}, Resources{MemoryLimit: 50, MemorySwap: 50}, Resources{MemoryLimit: 50, MemorySwap: 50}},
		"page sizes": {Resources{HugepageLimits: []HugepageLimit{{"2MB", 4}}}, Resources{HugepageLimits: []HugepageLimit{{"1GB", 1}, {"2MB", 0}}},
			Resources{HugepageLimits: []HugepageLimit{{"2MB", 0}, {"1GB", 1}}}},
		"unified": {Resources{Unified: map[string]string{"a.b": "1", "c.d": "2"}}, Resources{Unified: map[string]string{"c.d": "3"}},
			Resources{Unified: map[string]string{"a.b": "1", "c.d": "3"}}},
	} {
		if got := c.old.Merge(c.asked); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, not %+v", name, got, c.want)
		}
	}
	// What was is shared with a record: it must not change.
	full.Merge(Resources{HugepageLimits: []HugepageLimit{{"2MB", 9}}, Unified: map[string]string{"pids.max": "99"}})
	if full.HugepageLimits[0].Limit != 4 || full.Unified["pids.max"] != "10" {
		t.Errorf("what was is changed: %+v", full)
	}
}

// TestMergeKnowsEveryField: a field that is added to Resources must be merged.
func TestMergeKnowsEveryField(t *testing.T) {
	v := reflect.TypeFor[Resources]()
	for i := range v.NumField() {
		var asked Resources
		f := reflect.ValueOf(&asked).Elem().Field(i)
		switch f.Kind() {
		case reflect.Int64:
			f.SetInt(5)
		case reflect.String:
			f.SetString("5")
		case reflect.Slice:
			f.Set(reflect.ValueOf([]HugepageLimit{{"2MB", 1}}))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"pids.max": "5"}))
		default:
			t.Fatalf("%s: a %s", v.Field(i).Name, f.Kind())
		}
		if got := (Resources{}).Merge(asked); !reflect.DeepEqual(got, asked) {
			t.Errorf("%s is not merged: %+v", v.Field(i).Name, got)
		}
	}
}
