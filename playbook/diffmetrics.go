package playbook

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// metrics lists what changes in how experiments are read.
func (d *differ) metrics() {
	old, now := d.before.Metrics, d.after.Metrics
	for _, key := range union(old, now) {
		read := readBy(d.after, key)
		removed := Change{Kind: "metric", Key: key, Severity: Info}
		added := Change{Kind: "metric", Key: key, Severity: Info}
		if m := now[key]; m != nil {
			added.New = m.Definition()
		}
		if m := old[key]; m != nil {
			removed.Old = m.Definition()
		}
		if !presence(d, old, now, key, added, removed) {
			continue
		}
		changed := Change{Kind: "metric", Key: key, What: "definition changed", Severity: Info, Hint: "no experiment is read by it"}
		if len(read) > 0 {
			changed.Severity = Warning
			changed.Hint = "what was read of " + strings.Join(read, ", ") + " before is not what is read from here on; what users did is counted anew"
		}
		d.setting(changed, judged(old[key]), judged(now[key]))
		d.described("metric", key, old[key].Description, now[key].Description)
	}
}

// judged is a definition with what counts as better.
func judged(m *Metric) string {
	text := m.Definition()
	if m.LowerIsBetter {
		text += "; lower is better"
	}
	if m.Margin > 0 {
		text += "; guardrail, a loss of " + percent(m.Margin) + " is accepted"
	}
	if m.Before > 0 {
		text += "; adjusted on the time before"
	}
	return text
}

// readBy lists the experiments that are read by a metric.
func readBy(p *Playbook, metric string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(p.Experiments)) {
		if slices.Contains(p.Experiments[key].Metrics, metric) {
			list = append(list, key)
		}
	}
	return list
}

const afterTheData = "decided before the data, or it promises nothing: for a running experiment, give the new one a new key"

// reading lists what changes in how one experiment is read, and who enters it.
func (d *differ) reading(key string, old, now *Experiment) {
	change := func(what string, severity Severity, hint string) Change {
		return Change{Kind: "experiment", Key: key, What: what, Severity: severity, Hint: hint}
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	list := func(keys []string) string { return strings.Join(keys, ", ") }
	d.setting(change("namespace changed", Breaking, "who takes part changes: users who met it keep their variant, and others never meet it"),
		namespaceText(old.Namespace), namespaceText(now.Namespace))
	d.setting(change("forced users changed", Info, "counts from the first meeting on; who met it already keeps the variant"),
		forcedText(old.ForcedUsers), forcedText(now.ForcedUsers))
	d.setting(change("control changed", Warning, "what the others are compared with"), old.Control, now.Control)
	d.setting(change("primary metric changed", Warning, afterTheData), old.Primary, now.Primary)
	d.setting(change("metrics changed", Warning, "each takes its share of the error budget"), list(old.Metrics), list(now.Metrics))
	d.setting(change("segments changed", Info, "each takes its share of the error budget of segments"), list(old.Segments), list(now.Segments))
	d.setting(change("covariates changed", Info, "intervals change their width"), list(old.Covariates), list(now.Covariates))
	d.setting(change("alpha changed", Warning, afterTheData), number(old.Alpha), number(now.Alpha))
	d.setting(change("n_star changed", Warning, afterTheData), number(old.NStar), number(now.NStar))
	d.setting(change("correction changed", Warning, afterTheData), string(old.Correction), string(now.Correction))
	d.setting(change("planned size changed", Info, "the always-valid figures hold at any size"), strconv.Itoa(old.Planned), strconv.Itoa(now.Planned))
	d.setting(change("decide changed", Info, "onramp experiment decide goes by it"), old.Decide.Text(), now.Decide.Text())
}

func namespaceText(n *Namespace) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprintf("%s from %g to %g, hash version %d", n.Name, n.Range.Start, n.Range.End, n.HashVersion)
}

func forcedText(forced map[string]string) string {
	parts := make([]string, 0, len(forced))
	for _, token := range slices.Sorted(maps.Keys(forced)) {
		parts = append(parts, token+": "+forced[token])
	}
	return strings.Join(parts, ", ")
}
