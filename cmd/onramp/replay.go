package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/internal/results"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
)

type replayCommand struct {
	Files []string `arg:"" help:"Event logs: CSV or JSON Lines, plain or gzip; - for standard input."`

	mappingFlags

	Speed    float64 `default:"0" help:"Time factor: 60 plays an hour in a minute. 0 is as fast as possible, user by user."`
	Source   string  `default:"replay" help:"Last token of the subject."`
	Rejects  string  `default:"rejects.jsonl" help:"File that keeps the lines that are no events; - keeps none."`
	Playbook string  `help:"Playbook to put in force first. Without it the current one stays."`
	Variant  string  `placeholder:"PROPERTY" help:"The log is of an experiment that ran elsewhere, and this property says which variant a user met: load it as onramp experiment import does, without workflows, and show its results."`
	Exp      string  `name:"experiment" placeholder:"KEY" help:"With --variant: which experiment of the playbook it is."`
	Embedded bool    `help:"Bring up servers of its own for this replay."`
	Data     string  `help:"With --embedded: folder that keeps all data. Defaults to none: a temporary one."`
	JSON     bool    `name:"json" help:"Print the report as one JSON document."`

	NATSURL   string `name:"nats-url" env:"ONRAMP_NATS_URL,NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS of the running engine."`
	NATSCreds string `name:"nats-creds" env:"ONRAMP_NATS_CREDS" help:"File with NATS credentials."`
	clickhouseFlags
}

// Help is shown by onramp replay --help.
func (*replayCommand) Help() string {
	return "Example: onramp replay events.csv.gz --embedded --playbook examples/app-onboarding\n\n" +
		"An experiment that ran elsewhere: onramp replay cookie_cats.csv.gz --embedded --playbook examples/cookie-cats --mapping examples/cookie-cats/import/mapping.yaml --experiment gate --variant version\n\n" +
		"Publishes the events as any service would, with their own times; events of the past change state but never cause actions. Replayed twice, nothing is counted twice. Lines that are no events are counted, shown and kept in the rejects file."
}

// replayReport is the report with what only the replay knows.
type replayReport struct {
	Read       int     `json:"read"`
	Rejected   int     `json:"rejected"`
	Published  int     `json:"published"`
	Duplicates int     `json:"duplicates"` // events that the archive had already
	Archived   uint64  `json:"archived"`
	Seconds    float64 `json:"seconds"`
	*outcome.Report

	log *eventLog
}

// Run replays the files.
func (c *replayCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	began := time.Now()
	if c.Variant != "" || c.Exp != "" {
		return c.elsewhere(ctx, io, logger)
	}
	mapping, err := c.mapping()
	if err != nil {
		return err
	}
	if c.Speed < 0 {
		return usagef("--speed is %g; it must be 0 or a positive factor", c.Speed)
	}
	bundle, err := c.bundle()
	if err != nil {
		return err
	}
	log, err := c.read(ctx, mapping, io)
	if err != nil {
		return err
	}
	return c.with(ctx, io, logger, func(ctx context.Context, e *engine) error {
		report, err := c.replay(ctx, e, bundle, log, io)
		if err != nil {
			return err
		}
		report.Seconds = time.Since(began).Seconds()
		return c.print(io, report)
	})
}

// elsewhere loads an experiment that other variants were given for than a workflow would give, and shows what it has found.
func (c *replayCommand) elsewhere(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Variant == "" || c.Exp == "" || c.Playbook == "" {
		return usagef("an experiment that ran elsewhere needs --experiment, --variant and --playbook")
	}
	load := importCommand{Experiment: c.Exp, Files: c.Files, Playbook: c.Playbook, Variant: c.Variant, mappingFlags: c.mappingFlags}
	book, err := compiledPlaybook(c.Playbook)
	if err != nil {
		return err
	}
	read, err := load.read(ctx, book, io)
	if err != nil {
		return err
	}
	show := func(ctx context.Context, store *outcome.Store) error {
		if err := read.into(ctx, store); err != nil {
			return err
		}
		r := &reader{store: store, book: func() (*playbook.Playbook, error) { return book, nil }}
		found, err := r.read(ctx, c.Exp, time.Time{})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return writeJSON(io.out, found)
		default:
			return results.WriteText(io.out, found, colored(io.out))
		}
	}
	if !c.Embedded {
		return c.withStore(ctx, logger, show)
	}
	return c.with(ctx, io, logger, func(ctx context.Context, e *engine) error { return show(ctx, e.store) })
}

func (c *replayCommand) bundle() (*playbook.Bundle, error) {
	if c.Playbook == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	return checkedBundle(c.Playbook)
}

func (c *replayCommand) read(ctx context.Context, m eventlog.Mapping, io stdio) (*eventLog, error) {
	keeper, err := openRejects(c.Rejects)
	if err != nil {
		return nil, err
	}
	log, err := readEvents(ctx, c.Files, m, io, keeper.keep)
	if closeErr := keeper.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	if c.Speed == 0 {
		byUser(log.records)
	}
	return log, nil
}

// byUser puts each user's events together, users in order of appearance. A user's story then arrives whole, in few signals;
// users do not depend on each other, so nothing else changes.
func byUser(records []eventlog.Record) {
	first := make(map[string]int)
	for i := range records {
		if _, seen := first[records[i].Event.UserID]; !seen {
			first[records[i].Event.UserID] = i
		}
	}
	slices.SortStableFunc(records, func(a, b eventlog.Record) int { return first[a.Event.UserID] - first[b.Event.UserID] })
}

// with does work with the engine that runs elsewhere, or with one that runs for this replay alone.
func (c *replayCommand) with(ctx context.Context, io stdio, logger *slog.Logger, work func(context.Context, *engine) error) error {
	if c.Embedded {
		say(io.err, "starting NATS, Temporal, its Web UI, ClickHouse and Onramp …\n")
		l, err := startLocal(ctx, freePorts(), c.Data, io.err, logger)
		if err != nil {
			return err
		}
		defer l.close() //nolint:contextcheck // ctx may be over; stopping has a deadline of its own
		return l.during(ctx, func(ctx context.Context) error { return work(ctx, l.engine) })
	}
	e := &engine{logger: logger, servers: c.servers()}
	e.servers.NATSURL, e.servers.NATSCreds, e.servers.Replicas = c.NATSURL, c.NATSCreds, 1
	defer e.close()
	if err := e.openNATS(ctx); err != nil {
		return fmt.Errorf("%w; or bring up servers of its own with --embedded", err)
	}
	if err := e.openStore(ctx); err != nil {
		return err
	}
	return work(ctx, e)
}

func (c *replayCommand) replay(ctx context.Context, e *engine, bundle *playbook.Bundle, log *eventLog, io stdio) (*replayReport, error) {
	if bundle != nil {
		if _, err := e.library.Publish(ctx, *bundle); err != nil {
			return nil, err
		}
	} else if _, err := e.library.Current(); err != nil {
		return nil, err
	}
	before, err := e.store.Report(ctx, outcome.ReportOptions{})
	if err != nil {
		return nil, err
	}
	if err := c.publish(ctx, e, log.records, io); err != nil {
		return nil, err
	}
	say(io.err, "waiting until the engine has come to rest …\n")
	if err := drain(ctx, e.js); err != nil {
		return nil, err
	}
	after, err := e.store.Report(ctx, outcome.ReportOptions{})
	if err != nil {
		return nil, err
	}
	return &replayReport{
		Read: log.counts.Rows, Rejected: log.counts.Rejects, Published: len(log.records), Report: after, Archived: after.Events,
		Duplicates: len(log.records) - int(after.Events-before.Events), log: log, //nolint:gosec // counts of one file
	}, nil
}

func (c *replayCommand) print(io stdio, report *replayReport) error {
	if c.JSON {
		return writeJSON(io.out, report)
	}
	report.log.printRejects(io)
	if report.Rejected > 0 {
		say(io.err, "%d lines are no events; they are kept in %s\n", report.Rejected, c.Rejects)
	}
	if err := report.WriteText(io.out, colored(io.out)); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	say(io.out, "\n%d rows read, %d rejected, %d published, %d of them known already; %d events of %d users archived, in %.0f s\n",
		report.Read, report.Rejected, report.Published, report.Duplicates, report.Archived, report.Users, report.Seconds)
	return nil
}

// errIncomplete says that some events could not be handed to JetStream.
var errIncomplete = errors.New("some events were not taken by JetStream; run the same command again: nothing is counted twice")
