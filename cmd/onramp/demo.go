package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"time"

	"github.com/onramphq/onramp/internal/simulate"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/worker"
)

// The demo's experiment, as the example playbook defines it, and the truth that is planted in it.
const (
	demoExperiment = "onboarding_flow"
	demoTreatment  = "personalized"
	plantedLift    = 0.15
)

type demoCommand struct {
	Users int           `default:"300" help:"Number of simulated sign-ups."`
	Seed  uint64        `default:"1" help:"Seed of the population: the same seed, the same users, variants and final segments."`
	Day   time.Duration `default:"4s" help:"How long a day of the playbook takes; the whole takes fifteen of them. More users want a longer day."`
	Keep  bool          `help:"Leave everything running at the end, to look around, until told to stop."`
	JSON  bool          `name:"json" help:"Print the report as one JSON document."`
}

// Help is shown by onramp demo --help.
func (*demoCommand) Help() string {
	return "Example: onramp demo --users 500 --seed 7 --keep\n\n" +
		"Starts the whole engine with fresh servers, lets a simulated population sign up and behave, a day in four seconds, and reports from ClickHouse what an analyst would see. The personalized flow raises activation by 15 %: the report shows what the experiment found beside it."
}

// demoReport is the report with what only the demo knows.
type demoReport struct {
	Seed      uint64            `json:"seed"`
	Published int               `json:"published"`
	Seconds   float64           `json:"seconds"`
	Links     map[string]string `json:"links"`
	*outcome.Report
}

// Run runs the demo.
func (c *demoCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Users < 2 || c.Users > 100_000 {
		return usagef("--users is %d; it must lie in 2 to 100000", c.Users)
	}
	began := time.Now()
	if c.Day < 200*time.Millisecond || c.Day > time.Hour {
		return usagef("--day is %s; it must lie in 200ms to 1h", c.Day)
	}
	bundle, err := example(c.Day.Hours() / 24)
	if err != nil {
		return err
	}
	say(io.err, "starting NATS, Temporal, its Web UI, ClickHouse and Onramp …\n")
	l, err := startLocal(ctx, freePorts(), "", io.err, logger)
	if err != nil {
		return err
	}
	defer l.close() //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
	current, err := l.library.Publish(ctx, bundle)
	if err != nil {
		return err
	}
	return l.during(ctx, func(ctx context.Context) error {
		report, err := c.play(ctx, l, current, io)
		if err != nil {
			return err
		}
		report.Seconds = time.Since(began).Seconds()
		if err := c.print(io, report); err != nil || !c.Keep {
			return err
		}
		say(io.err, "\nEverything keeps running; stop with Ctrl-C.\n  Temporal UI  %s\n  ClickHouse   %s  database onramp; queries at %s/play\n  NATS         %s\n  Results      http://%s/experiments/%s\n\nIn another terminal:\n  export ONRAMP_NATS_URL=%[4]s ONRAMP_TEMPORAL_ADDRESS=%[7]s ONRAMP_CLICKHOUSE_ADDR=%[2]s\n  onramp results %[6]s\n  onramp explain %[8]s\n",
			l.stack.UIURL, l.stack.ClickHouseAddr, l.stack.ClickHouseHTTPURL, l.stack.NATSURL, l.listen.Addr(), demoExperiment, l.stack.TemporalAddress,
			path.Base(report.Links["dropped_user"]))
		<-ctx.Done()
		return nil
	})
}

// play publishes the population's life and waits until all of it has arrived in ClickHouse.
func (c *demoCommand) play(ctx context.Context, l *local, current worker.Current, io stdio) (*demoReport, error) {
	x := current.Experiments[demoExperiment]
	key := []byte(l.servers.WorkspaceKey)
	events := simulate.Population(simulate.Config{Users: c.Users, Seed: c.Seed, Lift: plantedLift, Personalized: func(id string) bool {
		return x.Assign(schema.UserToken(key, id)).Variant == demoTreatment
	}})
	show := newProgress(io.err, fmt.Sprintf("%d users, a day in %s", c.Users, c.Day), int64(simulate.Horizon/time.Hour))
	start := time.Now().Add(200 * time.Millisecond)
	for i, e := range events {
		at := start.Add(c.scaled(e.At))
		if err := waitUntil(ctx, at); err != nil {
			return nil, err
		}
		if err := publishEvent(l.js, "demo", schema.Event{
			EventID: e.ID, EventName: e.Name, UserID: e.UserID, OccurredAt: at, Properties: e.Properties, Traits: e.Traits,
		}); err != nil {
			return nil, err
		}
		if i%16 == 0 {
			show.set(int64(e.At / time.Hour))
		}
	}
	for left := time.Until(start.Add(c.scaled(simulate.Horizon))); left > 0; left = time.Until(start.Add(c.scaled(simulate.Horizon))) {
		show.set(int64(time.Since(start).Hours() / c.Day.Hours() * 24))
		if err := waitUntil(ctx, time.Now().Add(min(left, 250*time.Millisecond))); err != nil {
			return nil, err
		}
	}
	show.done()
	if err := drain(ctx, l.js); err != nil {
		return nil, err
	}
	report, err := l.store.Report(ctx, outcome.ReportOptions{Experiment: demoExperiment, Treatment: demoTreatment})
	if err != nil {
		return nil, err
	}
	if report.Experiment != nil {
		report.Experiment.Planted = new(plantedLift)
	}
	links, err := c.links(ctx, l)
	return &demoReport{Seed: c.Seed, Published: len(events), Report: report, Links: links}, err
}

// scaled is how long a time of the playbook takes here.
func (c *demoCommand) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.Day.Hours() / 24)
}

func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// links picks two users worth looking at: one who was brought through by the personalized flow, one who dropped off.
func (c *demoCommand) links(ctx context.Context, l *local) (map[string]string, error) {
	links := map[string]string{"temporal_ui": l.stack.UIURL, "clickhouse": l.stack.ClickHouseHTTPURL + "/play"}
	for name, sql := range map[string]string{
		"converted_user": `SELECT user_token FROM exposures WHERE variant = 'personalized' AND user_token IN (SELECT user_token FROM outcomes_unique WHERE kind = 'goal_converted') ORDER BY user_token LIMIT 1`,
		"dropped_user":   `SELECT user_token FROM outcomes_unique WHERE kind = 'action_decided' AND action = 'reengage' ORDER BY user_token LIMIT 1`,
	} {
		rows, err := l.store.Conn().Query(ctx, sql)
		if err != nil {
			return nil, fmt.Errorf("look for a %s: %w", name, err)
		}
		var token string
		if rows.Next() {
			err = rows.Scan(&token)
		}
		if err == nil {
			err = rows.Err()
		}
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, fmt.Errorf("look for a %s: %w", name, err)
		}
		if token != "" {
			links[name] = workflowURL(l.stack.UIURL, token)
		}
	}
	return links, nil
}

func workflowURL(ui, token string) string {
	return ui + "/namespaces/default/workflows/" + url.PathEscape(schema.WorkflowID(token))
}

func (c *demoCommand) print(io stdio, report *demoReport) error {
	if c.JSON {
		return writeJSON(io.out, report)
	}
	if err := report.WriteText(io.out, colored(io.out)); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	say(io.out, "\nUsers worth a look (with --keep)\n  activated  %s\n  dropped    %s\n", report.Links["converted_user"], report.Links["dropped_user"])
	say(io.out, "\n%d events of %d users, seed %d, in %.0f s\n", report.Events, report.Users, c.Seed, report.Seconds)
	return nil
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
