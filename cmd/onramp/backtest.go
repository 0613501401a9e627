package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/page"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

type backtestCommand struct {
	Playbook string   `arg:"" help:"Playbook to test: folder of YAML files, or one file."`
	Events   []string `required:"" sep:"none" placeholder:"FILE" help:"Event log, CSV or JSON Lines, plain or gzip; - for standard input; clickhouse for the archive of the running engine. Can be given more than once."`

	Against  string `placeholder:"PLAYBOOK" help:"A second playbook: show what the first changes, and for whom."`
	Story    string `placeholder:"USER" help:"Tell what happens to this one user, line by line."`
	Until    moment `help:"How long time goes on. Defaults to now."`
	From     moment `help:"Count only what happens from then on. Defaults to the beginning."`
	Historic bool   `help:"Take the events as historic, as onramp replay does: they cause no action."`
	Zone     string `help:"Time zone of the story's left column, such as Europe/Berlin, or local. Defaults to the user's own, where the playbook has a zone."`
	HTML     string `name:"html" placeholder:"FILE" help:"Write the report as one page that needs nothing else."`
	JSON     bool   `name:"json" help:"Print one JSON document."`

	mappingFlags
	clickhouseFlags

	WorkspaceKey string `env:"ONRAMP_WORKSPACE_KEY" help:"Secret that makes user tokens, by which users meet variants. Defaults to that of onramp dev."`
}

// Help is shown by onramp backtest --help.
func (*backtestCommand) Help() string {
	return "Example: onramp backtest examples/app-onboarding --events events.csv.gz --against examples/app-onboarding\n\n" +
		"Runs recorded events through a playbook in virtual time, with the same code as the engine: who would enter which journey, what would be sent and what held back. Nothing is sent, and no server is needed but for --events clickhouse."
}

// archive is the name of the events that a running engine has archived.
const archive = "clickhouse"

// Run runs the backtest.
func (c *backtestCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	began := time.Now()
	if c.Until.IsZero() {
		c.Until.Time = began
	}
	book, older, zone, err := c.prepare()
	if err != nil {
		return err
	}
	source, err := c.open(ctx, io, logger)
	if err != nil {
		return err
	}
	defer source.close()
	if c.Story != "" {
		return c.tell(book, source, zone, io)
	}
	result, err := c.run(book, older, source, io)
	if err != nil {
		return err
	}
	if c.HTML != "" {
		if err := c.writeHTML(book, result); err != nil {
			return err
		}
	}
	if c.JSON {
		return c.writeJSON(io, result)
	}
	if source.log != nil {
		source.log.printRejects(io)
	}
	if err := writeBacktest(io.out, result, colored(io.out)); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	say(io.out, "\n%d events of %d users up to %s, in %.1f s\n", result.New.Events, result.New.Users, c.Until.UTC().Format(time.RFC3339), time.Since(began).Seconds())
	return nil
}

func (c *backtestCommand) prepare() (book, older *playbook.Playbook, zone *time.Location, err error) {
	if slices.Contains(c.Events, archive) && len(c.Events) > 1 {
		return nil, nil, nil, usagef("--events %s stands alone", archive)
	}
	if zone, err = location(c.Zone); err != nil {
		return nil, nil, nil, err
	}
	if book, err = compiledPlaybook(c.Playbook); err != nil {
		return nil, nil, nil, err
	}
	if c.Against != "" {
		if older, err = compiledPlaybook(c.Against); err != nil {
			return nil, nil, nil, err
		}
	}
	return book, older, zone, nil
}

// logSource is where a backtest's users come from.
type logSource struct {
	users iter.Seq2[backtest.User, error]
	total int
	log   *eventLog // nil: the archive
	close func()
}

// open reads the files, or connects to the archive.
func (c *backtestCommand) open(ctx context.Context, io stdio, logger *slog.Logger) (*logSource, error) {
	key := []byte(cmp.Or(c.WorkspaceKey, embeddedKey))
	if slices.Contains(c.Events, archive) {
		return openArchive(ctx, c.servers(), tokenOf(key, c.Story), logger)
	}
	return openFiles(ctx, c.Events, &c.mappingFlags, key, c.Story, io)
}

func openFiles(ctx context.Context, files []string, flags *mappingFlags, key []byte, user string, io stdio) (*logSource, error) {
	mapping, err := flags.mapping()
	if err != nil {
		return nil, err
	}
	log, err := readEvents(ctx, files, mapping, io, nil)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &usageError{err}
		}
		return nil, err
	}
	s := &logSource{log: log, close: func() {}}
	s.users, s.total = log.users(ctx, key, user)
	return s, nil
}

// tokenOf is the token of a user who is named by token or by raw id; empty where nobody is.
func tokenOf(key []byte, user string) string {
	if user == "" || schema.CheckToken(user) == nil {
		return user
	}
	return schema.UserToken(key, user)
}

func openArchive(ctx context.Context, at servers, token string, logger *slog.Logger) (*logSource, error) {
	e := &engine{logger: logger, servers: at}
	if err := e.openStore(ctx); err != nil {
		return nil, err
	}
	s := &logSource{close: e.close, total: 1}
	if token == "" {
		total, err := e.store.Users(ctx)
		if err != nil {
			e.close()
			return nil, err
		}
		s.total = int(total) //nolint:gosec // a count of users
	}
	s.users = func(yield func(backtest.User, error) bool) {
		for log, err := range e.store.Logs(ctx, token) {
			if !yield(backtest.User{ID: log.UserToken, Token: log.UserToken, Events: log.Events}, err) {
				return
			}
		}
	}
	return s, nil
}

func (c *backtestCommand) run(book, older *playbook.Playbook, source *logSource, io stdio) (*backtest.Comparison, error) {
	show := newProgress(io.err, "running", int64(source.total))
	defer show.done()
	var done atomic.Int64
	opts := backtest.Options{
		Until: c.Until.milli(), From: c.From.milli(), Live: !c.Historic,
		Done: func(n int) { show.set(done.Add(int64(n))) },
	}
	var result *backtest.Comparison
	if older != nil {
		var err error
		if result, err = backtest.Compare(book, older, source.users, opts); err != nil {
			return nil, err
		}
	} else {
		alone, err := backtest.Run(book, source.users, opts)
		if err != nil {
			return nil, err
		}
		result = &backtest.Comparison{New: alone}
	}
	for _, r := range []*backtest.Result{result.New, result.Old} {
		if r != nil && source.log != nil {
			r.Rejected = uint64(source.log.counts.Rejects) //nolint:gosec // a count of lines
		}
	}
	return result, nil
}

func (c *backtestCommand) writeJSON(io stdio, result *backtest.Comparison) error {
	if result.Old == nil {
		return writeJSON(io.out, result.New)
	}
	return writeJSON(io.out, result)
}

func (c *backtestCommand) writeHTML(book *playbook.Playbook, result *backtest.Comparison) error {
	var b strings.Builder
	if err := page.Write(&b, book, result); err != nil {
		return err
	}
	return writeTo(c.HTML, nil, b.String())
}

// tell prints one user's story.
func (c *backtestCommand) tell(book *playbook.Playbook, source *logSource, zone *time.Location, io stdio) error {
	for user, err := range source.users {
		if err != nil {
			return err
		}
		story, err := backtest.Tell(book, user, backtest.Options{Until: c.Until.milli(), Live: !c.Historic})
		if err != nil {
			return err
		}
		if c.JSON {
			return writeJSON(io.out, story)
		}
		return writeStory(io.out, story, zone, colored(io.out))
	}
	return fmt.Errorf("user %s has no event in the log", schema.Clean(c.Story))
}
