package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/schema"
)

type planCommand struct {
	Baseline  float64 `help:"Value of the metric in control: a rate in (0,1), or with --sd a mean."`
	SD        float64 `name:"sd" help:"Standard deviation of one user's value, for a mean. Defaults to that of a rate."`
	Lift      float64 `help:"Relative effect that is to be found: 0.15 is 15 %. Left out, --users says which can be found."`
	Users     int64   `help:"Users of all arms together. Left out, --lift says how many are needed."`
	Arms      int     `default:"2" help:"Variants with control, in equal shares."`
	Alpha     float64 `default:"0.05" help:"Chance of a wrong claim, shared by all comparisons with control."`
	Power     float64 `default:"0.8" help:"Chance of finding the effect."`
	NStar     float64 `default:"5000" help:"Users of both arms at which the always-valid interval is tightest; fixed before the data."`
	Reduction float64 `help:"Share of the variance that covariates take away, as an earlier experiment showed it: 0.2 is 20 %."`
	PerDay    float64 `help:"Users who enter a day, all arms together; says how many days it takes."`
	Every     int64   `help:"Users of all arms between two looks. Defaults to those of a day, or else a tenth of the fixed sample."`
	Looks     int     `help:"How often it is looked at, at most. Defaults to as often as the power needs."`

	Experiment string `placeholder:"KEY" help:"Read baseline, deviation, arms, budget and users a day of this experiment from ClickHouse and its playbook."`
	Metric     string `help:"With --experiment: the metric to plan for. Defaults to the primary one."`
	JSON       bool   `name:"json" help:"Print one JSON document."`

	experimentFlags
}

// Help is shown by onramp experiment plan --help.
func (*planCommand) Help() string {
	return "Example: onramp experiment plan --baseline 0.3 --lift 0.15 --per-day 500\n\n" +
		"The figures of the fixed sample hold for one look at the end. Beside them stands what to expect of the rule that results use, which may be looked at every day: exact for normal estimates, by integration over all paths, no simulation."
}

// planReport is a plan and what to expect of it. Users are those of all arms together.
type planReport struct {
	Experiment string  `json:"experiment,omitempty"`
	Metric     string  `json:"metric,omitempty"`
	Baseline   float64 `json:"baseline"`
	SD         float64 `json:"sd,omitempty"` // of one user's value; missing: a rate
	Lift       float64 `json:"lift"`         // that is found with the power
	Arms       int     `json:"arms"`
	Alpha      float64 `json:"alpha"`
	Power      float64 `json:"power"`
	NStar      float64 `json:"n_star"`
	PerDay     float64 `json:"per_day,omitempty"`

	Fixed      planFixed      `json:"fixed"`
	Sequential planSequential `json:"sequential"`
}

// planFixed is a comparison that is looked at once, at the end.
type planFixed struct {
	Users  int64 `json:"users"`
	PerArm int64 `json:"per_arm"`
	Days   int64 `json:"days,omitempty"`
}

// planSequential is the rule in use.
type planSequential struct {
	Every       int64      `json:"every"`     // users between two looks
	MaxUsers    int64      `json:"max_users"` // at the last look
	MaxDays     int64      `json:"max_days,omitempty"`
	Power       float64    `json:"power"` // chance of stopping at one of the looks, under the lift
	MeanUsers   float64    `json:"mean_users"`
	MeanDays    float64    `json:"mean_days,omitempty"`
	FalseAlarms float64    `json:"false_alarms"` // chance of stopping where there is no effect
	WrongSign   float64    `json:"wrong_sign"`
	Looks       []planLook `json:"looks"`
}

type planLook struct {
	Users   int64   `json:"users"`
	Day     float64 `json:"day,omitempty"`
	Stopped float64 `json:"stopped"` // chance of having stopped by then
}

// Run plans.
func (c *planCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	report := &planReport{
		Experiment: c.Experiment, Baseline: c.Baseline, SD: c.SD, Lift: c.Lift, Arms: c.Arms, Alpha: c.Alpha, Power: c.Power, NStar: c.NStar, PerDay: c.PerDay,
	}
	if c.Experiment != "" {
		if err := c.with(ctx, logger, func(ctx context.Context, r *reader) error { return c.read(ctx, r, report) }); err != nil {
			return err
		}
	}
	if err := c.plan(report); err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(io.out, report)
	}
	return report.write(io.out, paint(colored(io.out)))
}

// read fills in what is known of an experiment that runs, or has run: its arms and budget from the playbook, value and spread of the
// metric in control, and how many users meet it a day.
func (c *planCommand) read(ctx context.Context, r *reader, report *planReport) error {
	a, err := r.analyze(ctx, c.Experiment, time.Time{}, 0)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(a.Metrics, func(m experiment.MetricReading) bool { return m.Key == cmp.Or(c.Metric, a.Spec.Primary) })
	if at < 0 {
		return usagef("experiment %s has no metric %s to plan for: name one with --metric", c.Experiment, schema.Clean(c.Metric))
	}
	m := &a.Metrics[at]
	arm := slices.IndexFunc(m.Arms, func(v experiment.ArmMetric) bool { return v.Variant == a.Spec.Control })
	if arm < 0 || !m.Arms[arm].State.Readable() {
		return fmt.Errorf("the value of %s in %s cannot be read yet: give --baseline", m.Key, a.Spec.Control)
	}
	control := &m.Arms[arm]
	report.Metric, report.Baseline, report.Arms = m.Key, control.Value, len(a.Arms)
	if m.Kind != experiment.KindProportion {
		report.SD = control.SE * math.Sqrt(float64(control.Users))
	}
	report.Alpha, report.NStar = a.Spec.Alpha, a.Spec.NStar
	traffic, err := r.store.Traffic(ctx, c.Experiment)
	report.PerDay = cmp.Or(c.PerDay, traffic.PerDay())
	return err
}

// plan fills in the fixed sample and the sequential rule.
func (c *planCommand) plan(r *planReport) error {
	if r.Baseline == 0 {
		return usagef("--baseline is missing: the value of the metric in control, or --experiment KEY to read it")
	}
	if (c.Lift == 0) == (c.Users == 0) {
		return usagef("give --lift (how many users?) or --users (which lift?), one of them")
	}
	if r.Arms < 2 {
		return usagef("--arms is %d; there must be control and at least one more", r.Arms)
	}
	p := experiment.Plan{Baseline: r.Baseline, SD: r.SD, Lift: c.Lift, Power: r.Power, Comparisons: r.Arms - 1, Reduction: c.Reduction}
	opts := experiment.Options{Alpha: r.Alpha, NStar: r.NStar}
	if c.Users != 0 {
		found, err := p.Detectable(pairOf(c.Users, r.Arms), opts)
		if err != nil {
			return &usageError{fmt.Errorf("%d users: %w", c.Users, err)}
		}
		p.Lift = found
	}
	r.Lift = p.Lift
	users, err := p.Users(opts)
	if err != nil {
		return &usageError{err}
	}
	r.Fixed.PerArm = (users + 1) / 2
	r.Fixed.Users = r.Fixed.PerArm * int64(r.Arms)
	if c.Users != 0 {
		r.Fixed.Users, r.Fixed.PerArm = c.Users, c.Users/int64(r.Arms)
	}
	if r.PerDay > 0 {
		if r.Fixed.Days, err = experiment.Days(r.Fixed.Users, r.PerDay); err != nil {
			return &usageError{err}
		}
	}
	return c.sequential(r, p, opts)
}

// pairOf is how many of so many users of all arms are in control and one treatment.
func pairOf(users int64, arms int) int64 { return users * 2 / int64(arms) }

// sequential looks at the rule in use, as often as the power needs unless told otherwise.
func (c *planCommand) sequential(r *planReport, p experiment.Plan, opts experiment.Options) error {
	every := c.Every
	switch {
	case every < 0 || c.Looks < 0:
		return usagef("--every and --looks must be above 0")
	case every == 0 && r.PerDay >= 1:
		every = int64(math.Round(r.PerDay))
	case every == 0:
		every = max(1, r.Fixed.Users/10)
	}
	pair := max(1, pairOf(every, r.Arms))
	count := int64(c.Looks)
	if count == 0 {
		most, err := p.SequentialUsers(pair, opts)
		switch {
		case errors.Is(err, experiment.ErrUnreachable):
			return &usageError{fmt.Errorf("looking every %d users takes too many looks: choose more with --every (%w)", every, err)}
		case err != nil:
			return &usageError{err}
		}
		count = most / pair
	}
	looks := make([]int64, count)
	for i := range looks {
		looks[i] = pair * int64(i+1)
	}
	o, err := p.Outlook(looks, opts)
	if err != nil {
		return &usageError{err}
	}
	s := &r.Sequential
	s.Every, s.Power, s.FalseAlarms, s.WrongSign = every, o.Power, o.FalseAlarms, o.WrongSign
	s.MaxUsers, s.MeanUsers = every*count, o.MeanUsers*float64(r.Arms)/2
	if r.PerDay > 0 {
		s.MeanDays = s.MeanUsers / r.PerDay
		if s.MaxDays, err = experiment.Days(s.MaxUsers, r.PerDay); err != nil {
			return &usageError{err}
		}
	}
	for i := range looks {
		l := planLook{Users: every * int64(i+1), Stopped: o.Stopped[i]}
		if r.PerDay > 0 {
			l.Day = float64(l.Users) / r.PerDay
		}
		s.Looks = append(s.Looks, l)
	}
	return nil
}

func (r *planReport) write(w io.Writer, p paint) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.bold("PLAN"+lead(" ", r.Experiment)+lead(" · ", r.Metric)))
	value := share(r.Baseline)
	if r.SD > 0 {
		value = fmt.Sprintf("%.4g (standard deviation %.4g)", r.Baseline, r.SD)
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	days := func(n float64) string {
		if r.PerDay <= 0 {
			return ""
		}
		return fmt.Sprintf("  %.1f days at %s a day", n, digits(uint64(math.Round(r.PerDay))))
	}
	s := &r.Sequential
	for _, row := range [][2]string{
		{"control at", value},
		{"lift to find", share(r.Lift)},
		{"arms", fmt.Sprintf("%d, in equal shares", r.Arms)},
		{"chance of a wrong claim", share(r.Alpha)},
		{"chance of finding it", share(r.Power)},
		{"", ""},
		{"looked at once, at the end", digits(r.Fixed.Users) + " users, " + digits(r.Fixed.PerArm) + " per arm" + days(float64(r.Fixed.Users)/orOne(r.PerDay))},
		{"looked at all the time", fmt.Sprintf("%s users on average%s", digits(uint64(math.Round(s.MeanUsers))), days(s.MeanDays))},
		{"", fmt.Sprintf("%s users at most%s", digits(s.MaxUsers), days(float64(s.MaxUsers)/orOne(r.PerDay)))},
		{"", fmt.Sprintf("%s stopped by then; where there is no effect, %s", share(s.Power), share(s.FalseAlarms))},
		{"always-valid rule", fmt.Sprintf("N* = %.0f users, a look every %s users", r.NStar, digits(s.Every))},
	} {
		if _, err := fmt.Fprintf(table, "  %s\t%s\n", row[0], row[1]); err != nil {
			return fmt.Errorf("print plan: %w", err)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	s.write(&b, p, r.PerDay)
	_, err := io.WriteString(w, b.String())
	return err
}

func orOne(v float64) float64 {
	if v <= 0 {
		return 1
	}
	return v
}

func lead(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// write shows the chance of having stopped, at no more than twenty of the looks.
func (s *planSequential) write(b *strings.Builder, p paint, perDay float64) {
	fmt.Fprintf(b, "\n  %s\n", p.dim(fmt.Sprintf("%12s %8s %9s", "users", "day", "stopped")))
	step := (len(s.Looks) + 19) / 20
	for i, l := range s.Looks {
		if (i+1)%step != 0 && i != len(s.Looks)-1 {
			continue
		}
		at := ""
		if perDay > 0 {
			at = fmt.Sprintf("%.1f", l.Day)
		}
		fmt.Fprintf(b, "  %12s %8s %9s  %s\n", digits(l.Users), at, share(l.Stopped), p.blue(strings.Repeat("█", int(math.Round(30*l.Stopped)))))
	}
}
