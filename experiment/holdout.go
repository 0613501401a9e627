package experiment

// Holdout keeps a share of the users out of everything, to measure everything: who is held out is compared with the users
// of Comparison, who get what everybody gets.
type Holdout struct {
	Key        string
	Share      float64 // held out, in (0,1)
	Comparison float64 // compared with them. Defaults to all the others.
}

// The groups of a holdout, the variants of its experiment.
const (
	HeldOut = "held_out"
	Treated = "treated"
)

// Experiment returns the experiment that a holdout is: assignment, sample ratio and effects are those of any other, with
// HeldOut as control. Who is in neither group is outside it and gets what everybody gets. Raising Comparison moves nobody out
// of a group.
func (h Holdout) Experiment() Experiment {
	compared, end := h.Comparison, h.Share+h.Comparison
	if compared == 0 {
		compared, end = 1-h.Share, 1
	}
	return Experiment{
		Key:      h.Key,
		Variants: []Variant{{Key: HeldOut, Weight: h.Share}, {Key: Treated, Weight: compared}},
		Ranges:   []Range{{Start: 0, End: h.Share}, {Start: h.Share, End: end}},
	}
}
