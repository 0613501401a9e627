package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
)

// The actions of a decision.
const (
	actionPause  = "pause"  // an arm gets nobody else what it gives
	actionStop   = "stop"   // the experiment ends, and everybody gets one arm
	actionShares = "shares" // the arms get other shares of the users to come
)

// decided is one thing that the figures of an experiment decide. Nothing is changed by it: Change says, for a person, what to
// change in the playbook.
type decided struct {
	Action   string             `json:"action"`
	Variants []string           `json:"variants"` // that are paused; or the one that is kept
	Shares   map[string]float64 `json:"shares,omitempty"`
	Because  []string           `json:"because"`
	Change   string             `json:"change"`
}

// decideOn applies the rule of an experiment to an analysis of it. Waiting says in words why nothing more is decided.
func decideOn(a *experiment.Analysis, rule playbook.Decide) (all []decided, waiting []string) {
	switch {
	case rule.Text() == "":
		return nil, []string{"The playbook says nothing under decide: nothing may be decided."}
	case !a.State.Readable():
		return nil, []string{a.Verdict.Headline}
	case a.Ratio.Mismatch:
		return nil, []string{"Nothing is decided by figures that cannot be trusted. " + a.Ratio.Sentence}
	}
	if rule.PauseOnGuardrail {
		paused, why := breached(a)
		if len(paused.Variants) > 0 {
			all = append(all, paused)
		} else {
			waiting = append(waiting, why)
		}
	}
	if rule.StopForWinner {
		stop, why := finished(a, rule.AtLeast)
		if why == "" {
			all = append(all, stop)
		} else {
			waiting = append(waiting, why)
		}
	}
	if rule.Allocate != nil {
		shares, why := allocated(a, rule.Allocate)
		if why == "" {
			all = append(all, shares)
		} else {
			waiting = append(waiting, why)
		}
	}
	return all, waiting
}

// allocated says which weights the experiment that is to be moved gets.
func allocated(a *experiment.Analysis, rule *playbook.Allocate) (d decided, why string) {
	if len(a.Metrics) == 0 {
		return decided{}, "No metric says which arm is best."
	}
	primary := &a.Metrics[0]
	estimates := make([]experiment.Estimate, len(primary.Arms))
	for i := range primary.Arms {
		m := &primary.Arms[i]
		estimates[i] = experiment.Estimate{State: m.State, Value: m.Value, Variance: m.SE * m.SE * float64(m.Users), Users: m.Users}
	}
	allocator := experiment.Allocator{LowerIsBetter: primary.LowerIsBetter, Floor: rule.Floor, MinUsers: rule.MinUsers, TopTwo: rule.TopTwo}
	found, err := allocator.Allocate(estimates)
	switch {
	case err != nil:
		return decided{}, fmt.Sprintf("No weights move: %v.", err)
	case !found.State.Readable() || found.State == experiment.StateFewUsers:
		return decided{}, fmt.Sprintf("No weights move yet: every arm needs %d users with a value of %s, and spread.", rule.MinUsers, primary.Key)
	}
	d = decided{Action: actionShares, Shares: map[string]float64{}}
	weights := make([]string, len(primary.Arms))
	for i := range primary.Arms {
		variant := primary.Arms[i].Variant
		d.Variants, d.Shares[variant] = append(d.Variants, variant), found.Shares[i]
		weights[i] = fmt.Sprintf("%s: %g", variant, found.Shares[i])
		d.Because = append(d.Because, fmt.Sprintf("%s is the best of %s with a chance of %.1f %%.", variant, primary.Key, 100*found.Best[i]))
	}
	d.Change = fmt.Sprintf("Give experiment %s `variants: {%s}`. %s keeps its weights: its users are those by whom the arms are judged.", rule.To, strings.Join(weights, ", "), a.Spec.Experiment)
	return d, ""
}

// breached collects the arms that lose more than a margin.
func breached(a *experiment.Analysis) (d decided, why string) {
	d = decided{Action: actionPause}
	for i := range a.Metrics {
		for j := range a.Metrics[i].Effects {
			e := &a.Metrics[i].Effects[j]
			if e.Guard == nil || e.Verdict != experiment.VerdictBreached {
				continue
			}
			d.Because = append(d.Because, e.Sentence)
			if !slices.Contains(d.Variants, e.Treatment) {
				d.Variants = append(d.Variants, e.Treatment)
			}
		}
	}
	if len(d.Variants) == 0 {
		return d, "No guardrail is breached."
	}
	names := strings.Join(d.Variants, " and ")
	d.Change = fmt.Sprintf("Wherever the playbook has `experiment: %s`, give %s the steps of %s, and leave weights and seed as they are. "+
		"Nobody changes arms then: who meets %s from now on gets what control gets and still counts under it, so that what was counted stays comparable.",
		a.Spec.Experiment, names, a.Spec.Control, names)
	return d, ""
}

// finished says whether the experiment may end, and for whom; why says why not.
func finished(a *experiment.Analysis, atLeast time.Duration) (d decided, why string) {
	if a.Verdict.Code != experiment.DecideWinner && a.Verdict.Code != experiment.DecideLoser {
		return decided{}, "No arm has won: " + a.Verdict.Headline
	}
	if ran := time.Duration(a.At-a.Started) * time.Millisecond; ran < atLeast {
		return decided{}, fmt.Sprintf("%s It has run %s, and runs %s at least.", a.Verdict.Headline, spanText(ran), spanText(atLeast))
	}
	d = decided{Action: actionStop, Variants: []string{a.Verdict.Variant}, Because: append([]string{a.Verdict.Headline}, a.Verdict.Reasons...)}
	d.Change = fmt.Sprintf("Wherever the playbook has `experiment: %s`, put the steps of %s in place of the step: everybody who comes gets them. "+
		"Who is inside goes on as `migrate` says. The last reading is kept in analysis_snapshots.", a.Spec.Experiment, a.Verdict.Variant)
	return d, ""
}

func spanText(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	}
	return d.Round(time.Minute).String()
}
