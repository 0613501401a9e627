package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

type decideCommand struct {
	Experiment string `arg:"" help:"Key of the experiment."`

	DryRun bool `help:"Say what would be decided, and keep no record of it."`
	JSON   bool `name:"json" help:"Print one JSON document."`

	experimentFlags
}

// Help is shown by onramp experiment decide --help.
func (*decideCommand) Help() string {
	return "Example: onramp experiment decide onboarding_flow --dry-run\n\n" +
		"Reads the experiment, and says what its rule (decide, in the playbook) makes of the figures: pause an arm whose guardrail is breached, stop for a winner, move the weights of another experiment. The figures hold however often it is asked, so it may run every hour.\n\n" +
		"It changes nothing that runs: it records the decision in the table experiment_decisions, and prints the change to make in the playbook, which `onramp diff` and `onramp apply` then bring to everybody."
}

// decideReport is what was decided, and what was not.
type decideReport struct {
	Experiment string    `json:"experiment"`
	AnalysisID string    `json:"analysis_id,omitempty"`
	Rule       string    `json:"rule"`
	Recorded   bool      `json:"recorded"`
	Decided    []decided `json:"decided"`
	Waiting    []string  `json:"waiting"` // why nothing more was
}

// Run decides.
func (c *decideCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	return c.with(ctx, logger, func(ctx context.Context, r *reader) error {
		book, err := r.book()
		if err != nil {
			return err
		}
		x := book.Experiments[c.Experiment]
		if x == nil {
			return fmt.Errorf("the playbook has no experiment %s", schema.Clean(c.Experiment))
		}
		result, err := r.read(ctx, c.Experiment, time.Time{})
		if err != nil {
			return err
		}
		report := decideReport{Experiment: c.Experiment, AnalysisID: result.AnalysisID, Rule: x.Decide.Text(), Decided: []decided{}, Waiting: []string{}}
		all, waiting := decideOn(result.Analysis, x.Decide)
		report.Decided, report.Waiting = append(report.Decided, all...), append(report.Waiting, waiting...)
		if !c.DryRun && len(all) > 0 {
			if err := r.store.RecordDecisions(ctx, report.rows(book.Hash, time.Now())); err != nil {
				return err
			}
			report.Recorded = true
		}
		if c.JSON {
			return writeJSON(io.out, report)
		}
		report.write(io, paint(colored(io.out)))
		return nil
	})
}

// rows are the records of the decisions. The same decision by the same playbook has the same id, however often it is taken.
func (r *decideReport) rows(playbook string, now time.Time) []outcome.Decision {
	rows := make([]outcome.Decision, len(r.Decided))
	for i, d := range r.Decided {
		h := sha256.New()
		fmt.Fprintf(h, "%s\n%s\n%s\n%q\n", r.Experiment, playbook, d.Action, d.Variants)
		for _, variant := range slices.Sorted(maps.Keys(d.Shares)) {
			fmt.Fprintf(h, "%s %g\n", variant, d.Shares[variant])
		}
		rows[i] = outcome.Decision{
			DecisionID: "d" + hex.EncodeToString(h.Sum(nil)[:12]), Experiment: r.Experiment, DecidedAt: now, Action: d.Action, Variants: d.Variants,
			Shares: d.Shares, Because: d.Because, Change: d.Change, Rule: r.Rule, AnalysisID: r.AnalysisID, Playbook: playbook,
		}
	}
	return rows
}

func (r *decideReport) write(io stdio, p paint) {
	rule := r.Rule
	if rule == "" {
		rule = "nothing may be decided"
	}
	say(io.out, "%s\n%s\n", p.bold("DECIDE "+printable(r.Experiment)), p.dim("rule: "+printable(rule)))
	for _, d := range r.Decided {
		say(io.out, "\n%s\n", p.bold(d.Action+" "+printable(strings.Join(d.Variants, ", "))))
		for _, because := range d.Because {
			say(io.out, "  · %s\n", printable(because))
		}
		say(io.out, "  %s\n", printable(d.Change))
	}
	for _, why := range r.Waiting {
		say(io.out, "%s\n", p.dim(printable(why)))
	}
	switch {
	case r.Recorded:
		say(io.out, "\n%s\n", p.dim("recorded in experiment_decisions; nothing that runs was changed"))
	case len(r.Decided) > 0:
		say(io.out, "\n%s\n", p.dim("not recorded (--dry-run); nothing that runs was changed"))
	}
}
