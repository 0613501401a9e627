package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/selftest"
	"github.com/onramphq/onramp/outcome"
)

type selftestCommand struct {
	Experiment string `arg:"" help:"Key of the experiment."`

	Replications int     `default:"500" help:"How often users are dealt out anew."`
	Looks        int     `default:"20" help:"How often each of these is looked at."`
	Seed         string  `default:"selftest" help:"Seed of all that is random: the same seed, the same report."`
	Lift         float64 `help:"Relative lift that is put in: 0.1 is 10 %. Defaults to the one that so many users find with a chance of 80 %."`
	MaxUsers     int     `default:"100000" help:"Most users to deal out anew: of more, those with the smallest tokens."`
	JSON         bool    `name:"json" help:"Print one JSON document."`

	experimentFlags
}

// Help is shown by onramp experiment selftest --help.
func (*selftestCommand) Help() string {
	return "Example: onramp experiment selftest onboarding_flow\n\n" +
		"Asks of the experiment's own rows whether its analysis can be believed: users are dealt out again and again, without an effect and with one put in, and what is then claimed is counted. Beside it: do the buckets spread evenly, does the hash give the variants that were recorded, and have the variants of other experiments to do with these? Every check shows its limits; exit code 1 where one fails."
}

// selftestReport is the report with what it is of.
type selftestReport struct {
	Experiment string `json:"experiment"`
	selftest.Report
}

// Run tests.
func (c *selftestCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Replications < 20 || c.Replications > 100_000 || c.Looks < 1 || c.Looks > 1000 || c.MaxUsers < 1 {
		return usagef("--replications must lie in 20 to 100000, --looks in 1 to 1000, and --max-users must be 1 at least")
	}
	return c.with(ctx, logger, func(ctx context.Context, r *reader) error {
		in, err := r.selftest(ctx, c.Experiment, c.MaxUsers)
		if err != nil {
			return err
		}
		in.Replications, in.Looks, in.Seed, in.Lift = c.Replications, c.Looks, c.Seed, c.Lift
		report := selftestReport{Experiment: c.Experiment, Report: selftest.Run(*in)}
		if c.JSON {
			err = writeJSON(io.out, report)
		} else {
			err = report.write(io.out, paint(colored(io.out)))
		}
		if err == nil && !report.Passed {
			err = fmt.Errorf("the self-test of %s failed", c.Experiment)
		}
		return err
	})
}

// selftest collects the rows of an experiment.
func (r *reader) selftest(ctx context.Context, key string, most int) (*selftest.Input, error) {
	book, err := r.book()
	if err != nil {
		return nil, err
	}
	analysis, err := r.analyze(ctx, key, time.Time{}, 0)
	if err != nil {
		return nil, err
	}
	if !analysis.State.Readable() {
		return nil, fmt.Errorf("experiment %s cannot be read: %s", key, analysis.Why)
	}
	in := &selftest.Input{Options: experiment.Options{Alpha: analysis.Spec.Alpha, NStar: analysis.Spec.NStar}}
	if x := book.Experiments[key]; x != nil {
		in.Experiment = x.Experiment
	}
	if slices.ContainsFunc(analysis.Phases, func(p experiment.Phase) bool { return p.HashVersion == 0 }) {
		in.Elsewhere = "something else gave the users their variants"
	}
	for i := range analysis.Metrics {
		m := &analysis.Metrics[i]
		if m.Kind == "" || !m.State.Readable() {
			continue
		}
		metric, units, err := r.store.Units(ctx, book, key, m.Key, outcome.AnalyzeOptions{})
		if err != nil {
			return nil, err
		}
		in.Metrics = append(in.Metrics, selftest.Metric{Metric: metric, Units: units[:min(len(units), most)]})
	}
	if in.Tokens, err = r.store.Exposed(ctx, key); err != nil {
		return nil, err
	}
	if in.Others, err = r.others(ctx, analysis); err != nil {
		return nil, err
	}
	in.Misplaced, err = r.store.Misplaced(ctx, key)
	return in, err
}

// others counts the users of this experiment by their variants here and in every other one.
func (r *reader) others(ctx context.Context, a *experiment.Analysis) ([]selftest.Other, error) {
	rows, err := r.store.Conn().Query(ctx, `SELECT toString(o.experiment) AS other, toString(e.variant), toString(o.variant) AS there, count()
		FROM (SELECT user_token, variant FROM exposures_first WHERE experiment = ? AND excluded = '') AS e
		INNER JOIN (SELECT user_token, experiment, variant FROM exposures_first WHERE experiment NOT IN (?, 'holdout') AND excluded = '') AS o ON e.user_token = o.user_token
		GROUP BY other, e.variant, there ORDER BY other, there`, a.Spec.Experiment, a.Spec.Experiment)
	if err != nil {
		return nil, fmt.Errorf("count users in other experiments: %w", err)
	}
	defer rows.Close() //nolint:errcheck // the error that counts is that of Err
	var others []selftest.Other
	var columns []string // variants of the last one
	for rows.Next() {
		var other, variant, there string
		var users uint64
		if err := rows.Scan(&other, &variant, &there, &users); err != nil {
			return nil, fmt.Errorf("count users in other experiments: %w", err)
		}
		if len(others) == 0 || others[len(others)-1].Key != other {
			others, columns = append(others, selftest.Other{Key: other, Table: make([][]int64, len(a.Spec.Arms))}), nil
		}
		table := others[len(others)-1].Table
		at := slices.Index(columns, there)
		if at < 0 {
			at, columns = len(columns), append(columns, there)
			for i := range table {
				table[i] = append(table[i], 0)
			}
		}
		if arm := slices.IndexFunc(a.Spec.Arms, func(s experiment.ArmSpec) bool { return s.Variant == variant }); arm >= 0 {
			table[arm][at] += int64(users)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count users in other experiments: %w", err)
	}
	return others, nil
}

func (r *selftestReport) write(w io.Writer, p paint) error {
	var b strings.Builder
	verdict := p.green("passed")
	if !r.Passed {
		verdict = p.red("failed")
	}
	fmt.Fprintf(&b, "%s %s\n", p.bold("SELF-TEST "+printable(r.Experiment)), verdict)
	fmt.Fprintf(&b, "%s\n\n", p.dim(fmt.Sprintf("%s users dealt out %d times, looked at %d times each; seed %s; a check fails by chance once in a thousand times",
		digits(r.Users), r.Replications, r.Looks, printable(r.Seed))))
	fmt.Fprintf(&b, "  %s\n", p.dim(fmt.Sprintf("%-7s %-28s %-22s %10s  %s", "", "check", "of", "value", "passes within")))
	for _, c := range r.Checks {
		mark := p.green("ok     ")
		switch {
		case c.Skipped != "":
			mark = p.dim("skipped")
		case !c.Passed:
			mark = p.red("FAILED ")
		}
		fmt.Fprintf(&b, "  %s %-28s %-22s", mark, c.Name, printable(c.Metric))
		if c.Skipped != "" {
			fmt.Fprintf(&b, "  %s\n", p.dim(printable(c.Skipped)))
			continue
		}
		fmt.Fprintf(&b, " %10.4g  %g to %g\n  %s\n", c.Value, c.Low, c.High, p.dim("        "+printable(c.What)))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}
