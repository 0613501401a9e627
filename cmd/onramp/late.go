package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

// lateStore is the ClickHouse of a process that serves without it what it can: the API alone. It is opened in the background, and until
// then whoever needs it is told that it is away.
type lateStore struct {
	engine *engine // that it is opened for

	mu    sync.Mutex
	store *outcome.Store
	shelf *shelf
	err   error // why it is not open
}

// How long is waited between two attempts to open it.
const (
	firstOpen = 100 * time.Millisecond
	lastOpen  = 5 * time.Second
)

// try opens it once. Where it is away, or answers that something is not well, it is tried again by run and the error is logged; an error
// that is returned will not pass by itself.
func (l *lateStore) try(ctx context.Context) error {
	store, err := l.engine.newStore(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = err; err == nil {
		l.store, l.shelf = store, l.engine.newShelf(store)
		return nil
	}
	if code := schema.CodeOf(err); code == schema.CodeInvalid || code == schema.CodeConflict || ctx.Err() != nil {
		return err
	}
	l.engine.logger.WarnContext(ctx, "ClickHouse is away: experiments and the past are not answered until it is there", slog.Any("error", err))
	return nil
}

// run tries until it is open or ctx ends. It returns an error where waiting cannot help, as the start would have.
func (l *lateStore) run(ctx context.Context) error {
	for wait := firstOpen; ; wait = min(2*wait, lastOpen) {
		if store, _ := l.get(); store != nil { //nolint:errcheck // it has been logged
			l.engine.logger.InfoContext(ctx, "ClickHouse is there")
			return nil
		}
		if waitUntil(ctx, time.Now().Add(wait)) != nil {
			return nil //nolint:nilerr // told to stop
		}
		if err := l.try(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// get returns the store, or the error that says why there is none.
func (l *lateStore) get() (*outcome.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store, l.err
}

func (l *lateStore) reading() (*shelf, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shelf, l.err
}

// List implements api.Experiments.
func (l *lateStore) List(ctx context.Context) ([]byte, error) {
	s, err := l.reading()
	if err != nil {
		return nil, err
	}
	return s.List(ctx)
}

// Results implements api.Experiments.
func (l *lateStore) Results(ctx context.Context, key string) ([]byte, error) {
	s, err := l.reading()
	if err != nil {
		return nil, err
	}
	return s.Results(ctx, key)
}

// Page implements api.Experiments.
func (l *lateStore) Page(ctx context.Context, key string) (page []byte, policy string, err error) {
	s, err := l.reading()
	if err != nil {
		return nil, "", err
	}
	return s.Page(ctx, key)
}
