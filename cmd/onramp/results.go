package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/onramphq/onramp/internal/results"
	"github.com/onramphq/onramp/playbook"
)

// experimentFlags say where results come from: the rows from ClickHouse, and what they mean from a playbook.
type experimentFlags struct {
	Playbook  string `placeholder:"PLAYBOOK" help:"Playbook that says how experiments are read. Defaults to the one in force in the running engine."`
	NATSURL   string `name:"nats-url" env:"ONRAMP_NATS_URL,NATS_URL" default:"nats://127.0.0.1:4222" help:"NATS of the running engine, which holds the playbook in force."`
	NATSCreds string `name:"nats-creds" env:"ONRAMP_NATS_CREDS" help:"File with NATS credentials."`

	clickhouseFlags
}

// with opens what results are read from, and does work with it.
func (f *experimentFlags) with(ctx context.Context, logger *slog.Logger, work func(context.Context, *reader) error) error {
	e := &engine{logger: logger, servers: f.servers()}
	e.servers.NATSURL, e.servers.NATSCreds, e.servers.Replicas = f.NATSURL, f.NATSCreds, 1
	defer e.close()
	if err := e.openStore(ctx); err != nil {
		return err
	}
	r := &reader{store: e.store}
	if f.Playbook != "" {
		book, err := compiledPlaybook(f.Playbook)
		if err != nil {
			return err
		}
		r.book = func() (*playbook.Playbook, error) { return book, nil }
		return work(ctx, r)
	}
	if err := e.connectNATS(ctx); err != nil {
		return fmt.Errorf("%w; or name a playbook with --playbook", err)
	}
	if err := e.openLibrary(ctx); err != nil {
		return err
	}
	r.book = e.playbook
	return work(ctx, r)
}

// playbook is the one in force.
func (e *engine) playbook() (*playbook.Playbook, error) {
	current, err := e.library.Current()
	if err != nil {
		return nil, err
	}
	return current.Playbook, nil
}

type resultsCommand struct {
	Experiment string `arg:"" optional:"" help:"Key of the experiment. Without it all experiments are listed."`

	Since    moment `help:"Leave out users who met the experiment before."`
	Snapshot string `placeholder:"ID" help:"Show a reading that was kept, as it was then, in place of a new one."`
	HTML     string `name:"html" placeholder:"FILE" help:"Write the results as one page that works offline."`
	JSON     bool   `name:"json" help:"Print one JSON document."`

	experimentFlags
}

// Help is shown by onramp results --help.
func (*resultsCommand) Help() string {
	return "Examples:\n\n  onramp results                                      where every experiment stands\n" +
		"  onramp results onboarding_flow                      verdict, intervals, segments\n" +
		"  onramp results onboarding_flow --html flow.html     the same with how each number was computed\n\n" +
		"The figures hold however often you look. Each reading is kept in the table analysis_snapshots."
}

// Run reads results.
func (c *resultsCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	if c.Experiment == "" && c.Snapshot == "" && c.HTML != "" {
		return usagef("--html needs an experiment: onramp results KEY --html %s", c.HTML)
	}
	return c.with(ctx, logger, func(ctx context.Context, r *reader) error {
		if c.Experiment == "" && c.Snapshot == "" {
			return c.list(ctx, io, r)
		}
		result, err := c.reading(ctx, r)
		if err != nil {
			return err
		}
		if c.HTML != "" {
			if err := writePage(c.HTML, result); err != nil {
				return err
			}
			say(io.err, "wrote %s\n", c.HTML)
		}
		switch {
		case c.JSON:
			return writeJSON(io.out, result)
		case c.HTML != "":
			return nil
		default:
			return results.WriteText(io.out, result, colored(io.out))
		}
	})
}

// reading is a new reading, or one that was kept.
func (c *resultsCommand) reading(ctx context.Context, r *reader) (*results.Results, error) {
	if c.Snapshot != "" {
		return r.snapshot(ctx, c.Snapshot)
	}
	return r.read(ctx, c.Experiment, c.Since.Time)
}

func (c *resultsCommand) list(ctx context.Context, io stdio, r *reader) error {
	all, err := r.list(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(io.out, all)
	}
	return results.WriteOverviews(io.out, all, colored(io.out))
}

// writePage writes the page whole or not at all: a page that is open in a browser is not half of it.
func writePage(path string, result *results.Results) error {
	var b bytes.Buffer
	if err := results.WriteHTML(&b, result); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil { //nolint:gosec // a page is there to be read
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
