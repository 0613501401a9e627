package experiment

import (
	"fmt"
	"slices"
)

// factors reads the main effects and interactions of a factorial flow on the primary metric.
func (a *analyst) factors(state State) ([]FactorReading, []JointReading) {
	i := slices.IndexFunc(a.spec.Metrics, func(m MetricSpec) bool { return m.Role == RolePrimary })
	if len(a.spec.Factors) == 0 || i < 0 || state != StateOK || a.spec.Metrics[i].Shape == ShapeQuantile {
		return nil, nil
	}
	m := &a.spec.Metrics[i]
	flow := a.flow()
	cells := flow.Cells()
	moments := make([]Moments, len(cells))
	for j, cell := range cells {
		k := slices.IndexFunc(a.spec.Arms, func(arm ArmSpec) bool {
			for f, factor := range a.spec.Factors {
				if arm.Levels[factor.Factor] != cell.Levels[f] {
					return false
				}
			}
			return true
		})
		if k >= 0 {
			moments[j] = a.row(m, a.spec.Arms[k].Variant, "").Moments
		}
	}
	report := flow.Interactions(m.metric(), moments, a.spec.Correction, a.opts)
	return a.mainEffects(m, report), jointReadings(report)
}

// flow rebuilds the factorial from what the arms say. The weights of levels do not matter for its effects, which weigh all
// combinations alike.
func (a *analyst) flow() Factorial {
	flow := Factorial{Key: a.spec.Experiment}
	for _, f := range a.spec.Factors {
		factor := Factor{Key: f.Factor}
		for _, level := range f.Levels {
			factor.Levels = append(factor.Levels, Variant{Key: level, Weight: 1 / float64(len(f.Levels))})
		}
		flow.Factors = append(flow.Factors, factor)
	}
	return flow
}

func (a *analyst) mainEffects(m *MetricSpec, report FactorialReport) []FactorReading {
	list := make([]FactorReading, 0, len(report.Main)+len(report.Interactions))
	for _, e := range report.Main {
		relative := measured(e.Relative, e.Relative, e.AdjustedP)
		r := FactorReading{
			Factors: []string{e.Factor}, Levels: []string{e.Level}, AdjustedP: e.AdjustedP,
			Effect: measured(e.Absolute, e.Absolute, e.AdjustedP), Relative: &relative,
		}
		r.Sentence = a.factorSentence(&r, fmt.Sprintf("%s %s against %s", e.Factor, e.Level, a.first(e.Factor)), m)
		list = append(list, r)
	}
	for _, e := range report.Interactions {
		r := FactorReading{
			Factors: []string{e.FactorA, e.FactorB}, Levels: []string{e.LevelA, e.LevelB}, AdjustedP: e.AdjustedP,
			Effect: measured(e.Effect, e.Effect, e.AdjustedP),
		}
		r.Sentence = a.factorSentence(&r, fmt.Sprintf("%s %s together with %s %s, beyond what each does", e.FactorA, e.LevelA, e.FactorB, e.LevelB), m)
		list = append(list, r)
	}
	return list
}

func (a *analyst) first(factor string) string {
	for _, f := range a.spec.Factors {
		if f.Factor == factor {
			return f.Levels[0]
		}
	}
	return ""
}

func (a *analyst) factorSentence(r *FactorReading, what string, m *MetricSpec) string {
	i := r.Effect.Simultaneous
	switch {
	case !r.Effect.State.Readable():
		return fmt.Sprintf("Nothing can be read of %s: %s.", what, stateWords()[r.Effect.State])
	case r.AdjustedP <= a.opts.Alpha:
		return fmt.Sprintf("%s: %s changes by %s (%s to %s), however often one looks.", what, m.Key, signed(r.Effect.Value, m.Unit == ""),
			end(i.Low, i.LowOpen, m.Unit == ""), end(i.High, i.HighOpen, m.Unit == ""))
	default:
		return fmt.Sprintf("%s: no effect on %s can be claimed (%s to %s).", what, m.Key, end(i.Low, i.LowOpen, m.Unit == ""), end(i.High, i.HighOpen, m.Unit == ""))
	}
}

func jointReadings(report FactorialReport) []JointReading {
	list := make([]JointReading, 0, len(report.Joint))
	for _, j := range report.Joint {
		list = append(list, JointReading{Factors: [2]string{j.FactorA, j.FactorB}, State: j.State, Wald: j.Wald, DF: j.DF, PValue: j.PValue})
	}
	return list
}
