package main

import (
	"context"
	"log/slog"

	"github.com/onramphq/onramp/outcome"
)

// experimentCommand is what is done to an experiment beside reading it.
type experimentCommand struct {
	Plan     planCommand     `cmd:"" help:"Say how many users an experiment needs, how long it takes, and what to expect of looking at it all the time."`
	Import   importCommand   `cmd:"" help:"Load an experiment that ran elsewhere: its events, and who met which variant."`
	Selftest selftestCommand `cmd:"" help:"Ask of an experiment's own rows whether its analysis can be believed."`
	Decide   decideCommand   `cmd:"" help:"Say what an experiment's rule makes of its figures, and record it."`
}

// withStore runs work on the ClickHouse of a running engine.
func (f *clickhouseFlags) withStore(ctx context.Context, logger *slog.Logger, work func(context.Context, *outcome.Store) error) error {
	e := &engine{logger: logger, servers: f.servers()}
	if err := e.openStore(ctx); err != nil {
		return err
	}
	defer e.close()
	return work(ctx, e.store)
}
