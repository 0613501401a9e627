package outcome

import (
	"maps"
	"slices"
	"strings"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
)

// specOf says how an experiment of the playbook is to be read. It has no arms where the playbook does not have it.
func specOf(book *playbook.Playbook, key string) (experiment.AnalysisSpec, []*playbook.Metric) {
	spec := experiment.AnalysisSpec{Experiment: key, Playbook: book.Hash}
	if key == playbook.HoldoutKey {
		return holdoutSpec(book, spec)
	}
	e := book.Experiments[key]
	if e == nil {
		return spec, nil
	}
	spec.Description, spec.Control, spec.Primary, spec.Holdout = e.Description, e.Control, e.Primary, e.Holdout
	spec.Segments, spec.Covariates = e.Segments[:min(len(e.Segments), maxSegments)], e.Covariates
	spec.Alpha, spec.NStar, spec.Correction, spec.Planned = e.Alpha, e.NStar, e.Correction, int64(e.Planned)
	for _, v := range e.Variants {
		spec.Arms = append(spec.Arms, experiment.ArmSpec{Variant: v.Key, Weight: v.Weight, Levels: e.Levels[v.Key]})
	}
	for _, f := range e.Factors {
		factor := experiment.FactorSpec{Factor: f.Key}
		for _, level := range f.Levels {
			factor.Levels = append(factor.Levels, level.Key)
		}
		spec.Factors = append(spec.Factors, factor)
	}
	metrics := book.MetricsOf(key)
	spec.Metrics = metricSpecs(metrics)
	return spec, metrics
}

// holdoutSpec compares who got everything with who got nothing, by all metrics.
func holdoutSpec(book *playbook.Playbook, spec experiment.AnalysisSpec) (experiment.AnalysisSpec, []*playbook.Metric) {
	if book.Holdout == nil {
		return spec, nil
	}
	spec.Description, spec.Control, spec.Holdout = "Who gets no action at all against everybody else.", playbook.HeldOut, playbook.HeldOut
	for _, v := range book.Holdout.Variants {
		spec.Arms = append(spec.Arms, experiment.ArmSpec{Variant: v.Key, Weight: v.Weight})
	}
	var metrics []*playbook.Metric
	for _, key := range slices.Sorted(maps.Keys(book.Metrics)) {
		metrics = append(metrics, book.Metrics[key])
	}
	spec.Metrics = metricSpecs(metrics)
	return spec, metrics
}

func metricSpecs(metrics []*playbook.Metric) []experiment.MetricSpec {
	list := make([]experiment.MetricSpec, len(metrics))
	for i, m := range metrics {
		s := experiment.MetricSpec{
			Key: m.Key, Role: experiment.RoleSecondary, Shape: string(m.Kind), Definition: m.Definition(), Unit: m.Unit(),
			LowerIsBetter: m.LowerIsBetter, Margin: m.Margin, Quantile: m.Quantile,
		}
		if m.Margin > 0 {
			s.Role = experiment.RoleGuardrail
		}
		switch m.Kind {
		case playbook.MetricMean:
			s.Kind = experiment.KindMean
		case playbook.MetricRatio:
			s.Kind = experiment.KindRatio
		case playbook.MetricProportion, playbook.MetricRetention, playbook.MetricFunnel:
			s.Kind = experiment.KindProportion
		case playbook.MetricQuantile:
			if m.Value.Of == playbook.MeasureTime {
				s.Censored = m.To.Seconds()
			}
		}
		for _, step := range m.Steps {
			s.Steps = append(s.Steps, stepName(step))
		}
		list[i] = s
	}
	return list
}

func stepName(step playbook.MetricStep) string {
	var name strings.Builder
	for i, event := range step.Events {
		if i > 0 {
			name.WriteString(" or ")
		}
		name.WriteString(event)
	}
	if step.Where != nil {
		name.WriteString(" where " + step.Where.Source)
	}
	return name.String()
}
