package experiment

import (
	"errors"
	"fmt"
)

// Layer keeps experiments apart: a user is in at most one of those in the layer. The experiments take the buckets of the
// layer in their order, so that one added at the end moves nobody.
type Layer struct {
	Key   string
	Slots []Slot
}

// Slot is the share of the layer's users who may enter an experiment.
type Slot struct {
	Experiment string
	Share      float64
}

// Filter returns the filter that an experiment of the layer needs. False: it has no slot.
func (l Layer) Filter(experiment string) (Filter, bool) {
	start := 0.0
	for _, s := range l.Slots {
		end := min(start+s.Share, 1)
		if s.Experiment == experiment {
			return Filter{Seed: l.Key, HashVersion: HashV2, Ranges: []Range{{Start: start, End: end}}}, true
		}
		start = end
	}
	return Filter{}, false
}

// Validate returns all that is wrong with l, joined.
func (l Layer) Validate() error {
	var problems []error
	if l.Key == "" {
		problems = append(problems, errors.New("layer without a key"))
	}
	seen, sum := make(map[string]bool, len(l.Slots)), 0.0
	for _, s := range l.Slots {
		if seen[s.Experiment] {
			problems = append(problems, fmt.Errorf("experiment %q stands twice in layer %q", s.Experiment, l.Key))
		}
		seen[s.Experiment] = true
		if !(s.Share > 0 && s.Share <= 1) { // written so that NaN is refused too
			problems = append(problems, fmt.Errorf("share of experiment %q is %v; it must lie in (0,1]", s.Experiment, s.Share))
		}
		sum += s.Share
	}
	if !(sum <= 1+sumTolerance) { // written so that NaN is refused too
		problems = append(problems, fmt.Errorf("the shares of layer %q sum to %v; they must sum to 1 at most", l.Key, sum))
	}
	return errors.Join(problems...)
}
