package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

type explainCommand struct {
	Who string `arg:"" name:"user" help:"The user, by raw id or by token."`

	At       moment   `help:"A moment of the past: the user is rebuilt from the archive up to then. Defaults to now, as the running engine sees it."`
	Playbook string   `help:"Rebuild the user with this playbook instead of the one in force."`
	Events   []string `sep:"none" placeholder:"FILE" help:"Rebuild the user from an event log instead of the archive; no server is needed. Can be given more than once."`
	Zone     string   `help:"Time zone of the story's left column, such as Europe/Berlin, or local. Defaults to the user's own, where the playbook has a zone."`
	JSON     bool     `name:"json" help:"Print one JSON document."`

	mappingFlags
	natsFlags
	clickhouseFlags
	temporalFlags
}

// Help is shown by onramp explain --help.
func (*explainCommand) Help() string {
	return "Examples:\n\n  onramp explain u42                              as the running engine sees the user now\n" +
		"  onramp explain u42 --at 2026-03-02T09:00        from the archive, with everything that led there\n" +
		"  onramp explain u42 --events log.csv --playbook DIR   from a file"
}

// Run explains a user.
func (c *explainCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	zone, err := location(c.Zone)
	if err != nil {
		return err
	}
	if len(c.Events) == 0 && c.At.IsZero() && c.Playbook == "" {
		return c.live(ctx, io, logger)
	}
	if c.At.IsZero() {
		c.At.Time = time.Now()
	}
	story, err := c.rebuild(ctx, io, logger)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(io.out, story)
	}
	color := colored(io.out)
	say(io.out, "%s\n", markdown(journey.Explain(story.Books, &story.State), color))
	say(io.out, "%s\n", paint(color).bold("What happened"))
	return writeStory(io.out, story, zone, color)
}

func (c *explainCommand) engine(logger *slog.Logger) *engine {
	e := &engine{logger: logger, servers: c.servers()}
	e.servers.NATSURL, e.servers.NATSCreds, e.servers.Replicas = c.NATSURL, c.NATSCreds, 1
	e.servers.TemporalAddress, e.servers.TemporalNamespace = c.TemporalAddress, c.TemporalNamespace
	return e
}

// live asks the user's workflow.
func (c *explainCommand) live(ctx context.Context, io stdio, logger *slog.Logger) error {
	e := c.engine(logger)
	defer e.close()
	if err := e.dialTemporal(ctx); err != nil {
		return err
	}
	token := tokenOf(c.key(), c.Who)
	profile, err := ask(ctx, e, token, schema.ProfileQuery)
	for err == nil && profile.MergedInto != "" {
		say(io.err, "%s has become %s, who is told of here\n", token, profile.MergedInto)
		token = profile.MergedInto
		profile, err = ask(ctx, e, token, schema.ProfileQuery)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(io.out, profile)
	}
	page, err := ask(ctx, e, token, schema.ExplainQuery)
	if err != nil {
		return err
	}
	say(io.out, "%s", markdown(page, colored(io.out)))
	return nil
}

// ask asks a user's workflow a query.
func ask[T any](ctx context.Context, e *engine, token string, query schema.Query[T]) (answer T, err error) {
	value, err := e.temporal.QueryWorkflow(ctx, schema.WorkflowID(token), "", query.Name)
	if _, unknown := errors.AsType[*serviceerror.NotFound](err); unknown {
		return answer, fmt.Errorf("user %s is unknown: no event that the playbook reads has come", token)
	}
	if err != nil {
		return answer, fmt.Errorf("ask workflow of %s: %w", token, err)
	}
	if err := value.Get(&answer); err != nil {
		return answer, fmt.Errorf("decode %s of %s: %w", query.Name, token, err)
	}
	return answer, nil
}

// rebuild folds the user's events up to the moment.
func (c *explainCommand) rebuild(ctx context.Context, io stdio, logger *slog.Logger) (*backtest.Story, error) {
	var book *playbook.Playbook
	if c.Playbook != "" {
		var err error
		if book, err = compiledPlaybook(c.Playbook); err != nil {
			return nil, err
		}
	}
	if len(c.Events) > 0 {
		if book == nil {
			return nil, usagef("--events needs --playbook: a log does not say which was in force")
		}
		return c.fromFiles(ctx, book, io)
	}
	return c.fromArchive(ctx, book, logger)
}

func (c *explainCommand) fromFiles(ctx context.Context, book *playbook.Playbook, io stdio) (*backtest.Story, error) {
	source, err := openFiles(ctx, c.Events, &c.mappingFlags, c.key(), c.Who, io)
	if err != nil {
		return nil, err
	}
	for user, err := range source.users {
		if err != nil {
			return nil, err
		}
		return backtest.Tell(book, user, backtest.Options{Until: c.At.milli(), Live: true})
	}
	return nil, fmt.Errorf("user %s has no event in the log", schema.Clean(c.Who))
}

// fromArchive folds what ClickHouse holds, under the versions that the user has lived under.
func (c *explainCommand) fromArchive(ctx context.Context, book *playbook.Playbook, logger *slog.Logger) (*backtest.Story, error) {
	e := c.engine(logger)
	defer e.close()
	if err := e.openStore(ctx); err != nil {
		return nil, err
	}
	token := tokenOf(c.key(), c.Who)
	versions := []backtest.Version{{Book: book}}
	if book == nil {
		var err error
		if versions, err = c.versions(ctx, e, token); err != nil {
			return nil, err
		}
	}
	for log, err := range e.store.Logs(ctx, token) {
		if err != nil {
			return nil, err
		}
		return backtest.TellRecorded(versions, backtest.User{ID: c.Who, Token: token, Events: log.Events}, c.At.milli())
	}
	return nil, fmt.Errorf("user %s has no event in the archive", token)
}

// versions finds the playbooks that a user has lived under: those that the user's outcomes name; where none does, the current one.
func (c *explainCommand) versions(ctx context.Context, e *engine, token string) ([]backtest.Version, error) {
	if err := e.connectNATS(ctx); err != nil {
		return nil, err
	}
	if err := e.readLibrary(ctx); err != nil {
		return nil, err
	}
	named, err := e.store.Playbooks(ctx, token)
	if err != nil {
		return nil, err
	}
	var versions []backtest.Version
	for _, p := range named {
		if book := e.library.Playbook(p.Playbook); book != nil { //nolint:contextcheck // it has a deadline of its own
			versions = append(versions, backtest.Version{At: p.Since, Book: book})
		}
	}
	if len(versions) > 0 {
		return versions, nil
	}
	current, err := e.library.Current()
	if err != nil {
		return nil, err
	}
	return []backtest.Version{{Book: current.Playbook}}, nil
}
