package experiment

import (
	"fmt"
	"math"
	"strconv"
)

// decide turns the readings into a verdict, in words.
func (a *analyst) decide(r *Analysis) Decision {
	switch {
	case !r.State.Readable():
		return Decision{Code: DecideNothing, Headline: "There is nothing to read: " + r.Why + ".", Reasons: []string{}}
	case r.Ratio.Mismatch:
		return Decision{Code: DecideDistrust, Headline: "Do not trust these results.", Reasons: []string{r.Ratio.Sentence}}
	case len(r.Metrics) == 0 || r.Metrics[0].Role != RolePrimary:
		return Decision{
			Code: DecideNothing, Headline: "There is nothing to read: the experiment has no metric that decides.",
			Reasons: []string{"Name metrics for the experiment in the playbook."},
		}
	}
	primary := r.Metrics[0]
	if !primary.State.Readable() {
		return Decision{
			Code: DecideNothing, Headline: fmt.Sprintf("There is nothing to read of %s yet: %s.", primary.Key, primary.Why), Reasons: []string{},
		}
	}
	d := Decision{Code: DecideWait, Reasons: []string{}}
	breached := a.breaches(r, &d)
	best, worse := a.outcomes(&primary, breached)
	switch {
	case best != nil:
		d.Code, d.Variant = DecideWinner, best.Treatment
		d.Headline = best.Treatment + " wins."
	case len(breached) > 0 && len(breached) == len(primary.Effects):
		d.Code, d.Headline = DecideStop, "Stop: every treatment does harm that was ruled out beforehand."
	case worse == len(primary.Effects):
		d.Code, d.Variant, d.Headline = DecideLoser, a.spec.Control, "Keep "+a.spec.Control+": every treatment is worse."
	case r.Size.Reached:
		d.Code, d.Headline = DecideNoGain, "The planned size is reached, and no difference can be claimed."
	default:
		d.Headline = "Keep running: nothing can be claimed yet."
	}
	for i := range primary.Effects {
		d.Reasons = append(d.Reasons, primary.Effects[i].Sentence)
	}
	d.Reasons = append(d.Reasons, r.Ratio.Sentence)
	if r.Size.Planned > 0 {
		d.Reasons = append(d.Reasons, fmt.Sprintf("%d of %d planned users have met the experiment.", r.Size.Users, r.Size.Planned))
	}
	return d
}

// breaches lists the treatments with a breached guardrail, and says so.
func (a *analyst) breaches(r *Analysis, d *Decision) map[string]bool {
	breached := make(map[string]bool)
	for i := range r.Metrics {
		for j := range r.Metrics[i].Effects {
			e := &r.Metrics[i].Effects[j]
			if e.Verdict == VerdictBreached {
				breached[e.Treatment] = true
				d.Reasons = append(d.Reasons, e.Sentence)
			}
		}
	}
	return breached
}

// outcomes returns the best treatment that is better than control and breaches nothing, and how many are worse.
func (a *analyst) outcomes(primary *MetricReading, breached map[string]bool) (best *EffectReading, worse int) {
	for i := range primary.Effects {
		e := &primary.Effects[i]
		switch {
		case e.Verdict == VerdictWorse:
			worse++
		case e.Verdict == VerdictBetter && !breached[e.Treatment]:
			if best == nil || math.Abs(e.Absolute.Value) > math.Abs(best.Absolute.Value) {
				best = e
			}
		}
	}
	return best, worse
}

// effectSentence says what a treatment does to a metric.
func effectSentence(m *MetricReading, e *EffectReading, control string) string {
	if !e.State.Readable() {
		return fmt.Sprintf("Nothing can be read of %s for %s: %s.", m.Key, e.Treatment, e.Why)
	}
	size := fmt.Sprintf("%s by %s (%s to %s)", m.Key, signed(e.Absolute.Value, m.Unit == ""), end(e.Absolute.Simultaneous.Low, false, m.Unit == ""),
		end(e.Absolute.Simultaneous.High, false, m.Unit == ""))
	if e.Relative.State.Readable() {
		i := e.Relative.Simultaneous
		size = fmt.Sprintf("%s by %s (%s to %s)", m.Key, signed(e.Relative.Value, true), end(i.Low, i.LowOpen, true), end(i.High, i.HighOpen, true))
	}
	switch e.Verdict {
	case VerdictBetter:
		return fmt.Sprintf("%s is better than %s: it changes %s, however often one looks.", e.Treatment, control, size)
	case VerdictWorse:
		return fmt.Sprintf("%s is worse than %s: it changes %s, however often one looks.", e.Treatment, control, size)
	case VerdictSafe:
		return fmt.Sprintf("%s keeps the guardrail %s: the worst the data allow is %s, and %s is accepted.", e.Treatment, m.Key, signed(e.Guard.Worst, true),
			signed(-m.Margin, true))
	case VerdictBreached:
		return fmt.Sprintf("%s breaks the guardrail %s: it changes %s, and a loss of %s is accepted.", e.Treatment, m.Key, size, signed(m.Margin, true)[1:])
	case VerdictUndecided:
	}
	if m.Role == RoleGuardrail {
		return fmt.Sprintf("%s: the guardrail %s is undecided, the data still allow %s.", e.Treatment, m.Key, signed(e.Guard.Worst, true))
	}
	return fmt.Sprintf("%s: no difference from %s can be claimed; it changes %s.", e.Treatment, control, size)
}

// signed writes a change: of shares and lifts in percent.
func signed(x float64, percent bool) string {
	x += 0 // no minus before zero
	text := short(x)
	if percent {
		text = strconv.FormatFloat(x*100, 'f', 1, 64) + " %"
	}
	if x >= 0 {
		return "+" + text
	}
	return "−" + text[1:]
}

func end(x float64, open, percent bool) string {
	if open {
		return "no bound"
	}
	return signed(x, percent)
}

// words explains every state, verdict and role that the analysis uses.
func words(r *Analysis) map[string]string {
	all, used := stateWords(), make(map[string]string)
	note := func(s State) {
		if text, ok := all[s]; ok {
			used[string(s)] = text
		}
	}
	note(r.State)
	for i := range r.Metrics {
		m := &r.Metrics[i]
		note(m.State)
		for j := range m.Arms {
			note(m.Arms[j].State)
		}
		for j := range m.Effects {
			e := &m.Effects[j]
			note(e.State)
			note(e.Absolute.State)
			note(e.Relative.State)
			if e.Split != nil {
				for k := range e.Split.Segments {
					note(e.Split.Segments[k].Absolute.State)
				}
			}
		}
	}
	for _, l := range r.Looks {
		note(l.State)
	}
	return used
}

// stateWords says what each state means.
func stateWords() map[State]string {
	return map[State]string{
		StateOK:             "the numbers can be read",
		StateFewConversions: fmt.Sprintf("an arm has fewer than %d conversions, or than %d users who did not convert: the evidence is exact, and wide", MinConversions, MinConversions),
		StateFewUsers:       fmt.Sprintf("an arm has fewer than %d users: the normal approximation is weak", MinUsers),
		StateEmptyArm:       "nobody met one of the variants",
		StateOneUser:        "an arm has one user: a value, but no spread",
		StateZeroBaseline:   "control is at zero: there is nothing to be relative to",
		StateZeroVariance:   "all users of both arms have the same value: no spread, and so no interval",
		StateZeroTotal:      "the denominator of the ratio sums to zero or less",
		StateUnbounded:      "control may be at zero: a relative effect has no bound",
		StateNotFinite:      "a value was not a number, or infinite",
		StateOverflow:       "a value was too large to be added up",
		StateInvalid:        "the numbers contradict each other",
		StateNoUsers:        "nobody has met the experiment",
		StateRemoved:        "the playbook no longer has the experiment",
		StateWeightsChanged: "the weights changed while the experiment ran: the arms are not comparable over both times",
		StateSeedChanged:    "the seed or hash version changed while the experiment ran: users changed arms",
		StateUnseenEvent:    "the event of the metric has never come, from anybody",
		StateNotEligible:    "no user of an arm has had the whole time the metric looks at",
		StateNotReached:     "too few users have done it within the window: the quantile lies beyond it",
		StateMissing:        "the metric was not counted",
	}
}
