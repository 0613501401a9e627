package experiment

import (
	"gonum.org/v1/gonum/stat/distuv"
)

// MainEffect is what a level of a factor does against the first level, all combinations of the other factors weighing the
// same. Where factors interact it is an average over different effects, and seldom of use.
type MainEffect struct {
	Factor, Level      string
	Absolute, Relative Effect
	AdjustedP          float64 // of Absolute, always-valid
}

// Interaction is how much more a level does in the presence of a level of another factor than without it: a difference of
// differences, (m₁₁ − m₁₀) − (m₀₁ − m₀₀), averaged over the rest. It needs four times the users that a main effect of the same
// size needs.
type Interaction struct {
	FactorA, LevelA string
	FactorB, LevelB string
	Effect          Effect // absolute
	AdjustedP       float64
}

// JointInteraction asks of two factors whether they interact in any of their levels: Wald's chi-squared, each cell with its
// own variance. For one planned look.
type JointInteraction struct {
	FactorA, FactorB string
	State            State
	Wald, DF         float64
	PValue           float64
}

// FactorialReport is what one look says about a factorial. One error budget covers all main effects and interactions.
type FactorialReport struct {
	Main         []MainEffect
	Interactions []Interaction
	Joint        []JointInteraction
}

// Interactions reads a metric off the moments of the cells, in the order of Cells. It returns an empty report where their
// numbers differ.
func (f Factorial) Interactions(metric Metric, cells []Moments, correction Correction, opts Options) FactorialReport {
	opts = opts.withDefaults()
	combinations := f.Cells()
	if len(combinations) == 0 || len(combinations) != len(cells) {
		return FactorialReport{}
	}
	t := newCellTable(f, metric, cells)
	var contrasts []Contrast
	for _, e := range t.effects {
		contrasts = append(contrasts, t.contrast(e.weights))
	}
	p := make([]float64, len(contrasts))
	for i, c := range contrasts {
		p[i] = c.Absolute(opts).Anytime.PValue
	}
	each, adjusted := opts.share(correction.IntervalAlpha(p, opts.Alpha)), correction.Adjust(p)
	var report FactorialReport
	for i, e := range t.effects {
		a := f.Factors[e.a]
		if e.b < 0 {
			report.Main = append(report.Main, MainEffect{
				Factor: a.Key, Level: a.Levels[e.levelA].Key, AdjustedP: adjusted[i],
				Absolute: contrasts[i].Absolute(each), Relative: contrasts[i].Relative(each),
			})
			continue
		}
		b := f.Factors[e.b]
		report.Interactions = append(report.Interactions, Interaction{
			FactorA: a.Key, LevelA: a.Levels[e.levelA].Key, FactorB: b.Key, LevelB: b.Levels[e.levelB].Key,
			AdjustedP: adjusted[i], Effect: contrasts[i].Absolute(each),
		})
	}
	report.Joint = t.joint(f)
	return report
}

// cellTable is the estimates of the cells and the effects to be read off them.
type cellTable struct {
	estimates []Estimate
	normal    bool  // z and not t: proportions
	levels    []int // how many each factor has
	effects   []cellEffect
}

// cellEffect is a weight for each cell. B is −1 for a main effect.
type cellEffect struct {
	a, b, levelA, levelB int
	weights              []float64
}

func newCellTable(f Factorial, metric Metric, cells []Moments) cellTable {
	t := cellTable{normal: metric.Kind == KindProportion}
	for _, c := range cells {
		t.estimates = append(t.estimates, metric.Of(c))
	}
	for _, factor := range f.Factors {
		t.levels = append(t.levels, len(factor.Levels))
	}
	for a, levels := range t.levels {
		for i := 1; i < levels; i++ {
			t.effects = append(t.effects, cellEffect{a: a, b: -1, levelA: i, weights: t.weights(a, i, -1, 0)})
		}
	}
	for a := range t.levels {
		for b := a + 1; b < len(t.levels); b++ {
			for i := 1; i < t.levels[a]; i++ {
				for j := 1; j < t.levels[b]; j++ {
					t.effects = append(t.effects, cellEffect{a: a, b: b, levelA: i, levelB: j, weights: t.weights(a, i, b, j)})
				}
			}
		}
	}
	return t
}

// weights returns the weight of each cell in an effect of level i of factor a, and of level j of factor b unless b is −1.
func (t cellTable) weights(a, i, b, j int) []float64 {
	list := make([]float64, len(t.estimates))
	each := float64(t.levels[a]) / float64(len(list))
	if b >= 0 {
		each *= float64(t.levels[b])
	}
	for cell := range list {
		w := each * sign(t.level(cell, a), i)
		if b >= 0 {
			w *= sign(t.level(cell, b), j)
		}
		list[cell] = w
	}
	return list
}

// sign is +1 for the level asked about, −1 for the first, and 0 for others.
func sign(level, asked int) float64 {
	switch level {
	case asked:
		return 1
	case 0:
		return -1
	default:
		return 0
	}
}

// level returns which level of a factor a cell has: the last factor changes first.
func (t cellTable) level(cell, factor int) int {
	for k := len(t.levels) - 1; k > factor; k-- {
		cell /= t.levels[k]
	}
	return cell % t.levels[factor]
}

// contrast returns the weighted sum of the cells. Its baseline is the part with negative weights.
func (t cellTable) contrast(weights []float64) Contrast {
	var c Contrast
	slack := 0.0
	for i, w := range weights {
		if w == 0 {
			continue
		}
		e := t.estimates[i]
		if c.State = c.State.worse(e.State); !e.State.Readable() {
			continue
		}
		v := w * w * e.Variance / float64(e.Users)
		c.Difference += w * e.Value
		c.VarDifference += v
		c.Users += float64(e.Users)
		slack += v * v / float64(max(e.Users-1, 1))
		if w < 0 {
			c.Baseline -= w * e.Value
			c.VarBaseline += v
			c.Covariance -= v
		}
	}
	if !c.State.Readable() {
		return Contrast{State: c.State}
	}
	if !t.normal && slack > 0 {
		c.DF = c.VarDifference * c.VarDifference / slack
	}
	return c
}

// joint tests all interactions of each pair of factors at once.
func (t cellTable) joint(f Factorial) []JointInteraction {
	var list []JointInteraction
	for from := 0; from < len(t.effects); from++ {
		if t.effects[from].b < 0 {
			continue
		}
		to := from
		for to < len(t.effects) && t.effects[to].a == t.effects[from].a && t.effects[to].b == t.effects[from].b {
			to++
		}
		j := t.wald(t.effects[from:to])
		j.FactorA, j.FactorB = f.Factors[t.effects[from].a].Key, f.Factors[t.effects[from].b].Key
		list = append(list, j)
		from = to - 1
	}
	return list
}

func (t cellTable) wald(effects []cellEffect) JointInteraction {
	p := len(effects)
	values, spread := make([]float64, p), make([]float64, p*p)
	state := State("")
	for i, a := range effects {
		c := t.contrast(a.weights)
		state = state.worse(c.State)
		values[i] = c.Difference
		for j, b := range effects {
			for cell, w := range a.weights {
				if e := t.estimates[cell]; e.State.Readable() {
					spread[i*p+j] += w * b.weights[cell] * e.Variance / float64(e.Users)
				}
			}
		}
	}
	if !state.Readable() {
		return JointInteraction{State: state, PValue: 1}
	}
	x, rank := solve(spread, values)
	if rank == 0 {
		return JointInteraction{State: StateZeroVariance, PValue: 1}
	}
	j := JointInteraction{State: state, DF: float64(rank)}
	for i := range x {
		j.Wald += x[i] * values[i]
	}
	j.PValue = distuv.ChiSquared{K: j.DF}.Survival(j.Wald)
	return j
}
