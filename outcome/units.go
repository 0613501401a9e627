package outcome

import (
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// Units returns the values of one metric of an experiment, user by user, as Analyze adds them up: the columns of the metric,
// covariates last. Users of all arms are among them, in the order of their tokens. An experiment or metric that the playbook does
// not have, or a quantile, is CodeInvalid.
func (s *Store) Units(ctx context.Context, book *playbook.Playbook, key, metric string, opts AnalyzeOptions) (experiment.Metric, []experiment.Unit, error) {
	a := newAnalysis(s, book, key, opts)
	i := slices.IndexFunc(a.metrics, func(m *playbook.Metric) bool { return m.Key == metric })
	if i < 0 || a.metrics[i].Kind == playbook.MetricQuantile {
		return experiment.Metric{}, nil, &schema.Error{
			Code:    schema.CodeInvalid,
			Message: fmt.Sprintf("experiment %s is read by no metric %s that has a value per user", schema.Clean(key), schema.Clean(metric)),
		}
	}
	spec := a.spec.Metrics[i]
	a.metrics, a.spec.Metrics = a.metrics[i:i+1], a.spec.Metrics[i:i+1]
	units, covariates, err := a.units(ctx)
	if err != nil {
		return experiment.Metric{}, nil, translate(err, s.addr, "read users of experiment "+schema.Clean(key))
	}
	m := experiment.Metric{Key: spec.Key, Kind: spec.Kind, LowerIsBetter: spec.LowerIsBetter, Margin: spec.Margin, Covariates: covariates}
	return m, units, nil
}

func (a *analysis) units(ctx context.Context) (units []experiment.Unit, covariates int, err error) {
	if err := a.prepare(ctx); err != nil {
		return nil, 0, err
	}
	b := a.builder()
	b.add(a.metrics[0])
	b.traitColumns()
	m := b.metrics[0]
	var values []string
	for _, c := range slices.Concat(m.outcome, m.covariates) {
		values = append(values, fmt.Sprintf("toFloat64(%s) / 1e%d", c.name, c.decimals))
	}
	eligible := m.eligible
	if eligible == "" {
		eligible = "true"
	}
	sql := fmt.Sprintf("%s\nSELECT user_token, [%s] AS row_values FROM users WHERE %s ORDER BY user_token\n%s", b.layers(), list(values, "    "), eligible, a.settings())
	err = a.each(ctx, sql, func(rows driver.Rows) error {
		var u experiment.Unit
		err := rows.Scan(&u.ID, &u.Values)
		units = append(units, u)
		return err
	})
	return units, len(m.covariates), err
}
