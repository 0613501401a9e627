package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/internal/results"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// looks is how many earlier moments a reading shows.
const looks = 14

// reader reads the results of experiments: rows from the store, and what they mean from a playbook. Safe for concurrent use.
type reader struct {
	store *outcome.Store
	book  func() (*playbook.Playbook, error) // the one to read by
}

// read reads one experiment and keeps the reading in ClickHouse. Errors: not_found where neither the playbook nor any exposure
// knows it.
func (r *reader) read(ctx context.Context, key string, since time.Time) (*results.Results, error) {
	analysis, err := r.analyze(ctx, key, since, looks)
	if err != nil {
		return nil, err
	}
	funnel, err := r.store.VariantFunnel(ctx, key, since)
	if err != nil {
		return nil, err
	}
	result := &results.Results{Engine: version(), Analysis: analysis, Journeys: journeysOf(analysis, funnel), Pooled: results.PooledOf(analysis)}
	if result.AnalysisID, err = r.store.Publish(ctx, analysis); err != nil {
		return nil, err
	}
	return result, nil
}

// snapshot is a reading that was kept, as it was then. Funnels are not part of it.
func (r *reader) snapshot(ctx context.Context, id string) (*results.Results, error) {
	analysis, err := r.store.Snapshot(ctx, id)
	if err != nil {
		return nil, err
	}
	return &results.Results{AnalysisID: id, Engine: version(), Analysis: analysis, Journeys: []results.JourneyFunnel{}, Pooled: results.PooledOf(analysis)}, nil
}

func (r *reader) analyze(ctx context.Context, key string, since time.Time, looks int) (*experiment.Analysis, error) {
	book, err := r.book()
	if err != nil {
		return nil, err
	}
	analysis, err := r.store.Analyze(ctx, book, key, outcome.AnalyzeOptions{Since: since, Looks: looks})
	if err != nil {
		return nil, err
	}
	if len(analysis.Arms) == 0 && analysis.Size.Users == 0 {
		return nil, &schema.Error{Code: schema.CodeNotFound, Message: fmt.Sprintf("no experiment %s: the playbook has none of that name, and nobody has met one", schema.Clean(key))}
	}
	return analysis, nil
}

// list says where every experiment of the playbook stands.
func (r *reader) list(ctx context.Context) ([]results.Overview, error) {
	book, err := r.book()
	if err != nil {
		return nil, err
	}
	keys := slices.Sorted(maps.Keys(book.Experiments))
	if book.Holdout != nil {
		keys = append(keys, playbook.HoldoutKey)
	}
	all := make([]results.Overview, 0, len(keys))
	for _, key := range keys {
		a, err := r.store.Analyze(ctx, book, key, outcome.AnalyzeOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, results.Overview{Experiment: key, State: a.State, Users: a.Size.Users, Verdict: a.Verdict.Code, Headline: a.Verdict.Headline})
	}
	return all, nil
}

// journeysOf sets the counts of a funnel beside each other, a place for every arm.
func journeysOf(a *experiment.Analysis, funnel []outcome.VariantStep) []results.JourneyFunnel {
	list := []results.JourneyFunnel{}
	for _, s := range funnel {
		arm := slices.IndexFunc(a.Arms, func(r experiment.ArmReading) bool { return r.Variant == s.Variant })
		if arm < 0 {
			continue
		}
		if len(list) == 0 || list[len(list)-1].Journey != s.Journey {
			list = append(list, results.JourneyFunnel{Journey: s.Journey})
		}
		j := &list[len(list)-1]
		if len(j.Steps) == 0 || j.Steps[len(j.Steps)-1].Step != s.Step {
			j.Steps = append(j.Steps, results.FunnelStep{Step: s.Step, Users: make([]int64, len(a.Arms))})
		}
		j.Steps[len(j.Steps)-1].Users[arm] = s.Users
	}
	return list
}

// shelf is a reader for the API. A reading counts all rows anew, so it is made once for all who ask within freshFor.
type shelf struct {
	reader *reader

	mu   sync.Mutex
	held map[string]*held
}

func (e *engine) newShelf(store *outcome.Store) *shelf {
	return &shelf{reader: &reader{store: store, book: e.playbook}, held: make(map[string]*held)}
}

type held struct {
	made   chan struct{} // closed when the reading is there
	at     time.Time
	result *results.Results
	err    error
}

// freshFor is how long a reading is given out, and readTimeout how long it may take to make one.
const (
	freshFor    = 15 * time.Second
	readTimeout = time.Minute
)

// get returns a reading that is fresh. Whoever comes first makes it, for all who wait.
func (s *shelf) get(ctx context.Context, key string) (*results.Results, error) {
	s.mu.Lock()
	h, ok := s.held[key]
	if !ok || h.over() {
		h = &held{made: make(chan struct{})}
		s.held[key] = h
		s.mu.Unlock()
		s.make(ctx, key, h)
		return h.result, h.err
	}
	s.mu.Unlock()
	select {
	case <-h.made:
		return h.result, h.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a reading: %w", context.Cause(ctx))
	}
}

// make reads for all who wait, so it goes on though the first of them has gone. What failed is not kept.
func (s *shelf) make(ctx context.Context, key string, h *held) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	h.result, h.err = s.reader.read(ctx, key, time.Time{})
	h.at = time.Now()
	close(h.made)
	if h.err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] == h {
		delete(s.held, key)
	}
}

// over says whether a reading has been made and is old.
func (h *held) over() bool {
	select {
	case <-h.made:
		return time.Since(h.at) > freshFor
	default:
		return false
	}
}

// List implements api.Experiments.
func (s *shelf) List(ctx context.Context) ([]byte, error) {
	all, err := s.reader.list(ctx)
	if err != nil {
		return nil, err
	}
	return encoded(all)
}

// Results implements api.Experiments.
func (s *shelf) Results(ctx context.Context, key string) ([]byte, error) {
	result, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	return encoded(result)
}

// Page implements api.Experiments.
func (s *shelf) Page(ctx context.Context, key string) (page []byte, policy string, err error) {
	result, err := s.get(ctx, key)
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	if err := results.WriteHTML(&b, result); err != nil {
		return nil, "", err
	}
	return b.Bytes(), results.Policy(), nil
}

func encoded(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode results: %w", err)
	}
	return append(raw, '\n'), nil
}
