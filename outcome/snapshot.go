package outcome

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/schema"
)

// Snapshot is a published reading.
type Snapshot struct {
	ID          string    `json:"analysis_id"`
	Experiment  string    `json:"experiment"`
	At          time.Time `json:"at"` // what happened up to here was counted
	PublishedAt time.Time `json:"published_at"`
	Playbook    string    `json:"playbook"`
	Verdict     string    `json:"verdict"`
	Headline    string    `json:"headline"`
}

// armMoments is the sums of one metric and arm, as a snapshot keeps them.
type armMoments struct {
	Metric  string   `json:"metric"`
	Variant string   `json:"variant"`
	Columns []string `json:"columns"`
	experiment.MomentsReading
}

// Publish keeps a reading with its settings, queries, sums and results, and returns its id. The id follows from the content:
// publishing the same reading twice keeps it once.
func (s *Store) Publish(ctx context.Context, a *experiment.Analysis) (string, error) {
	results, err := json.Marshal(a)
	if err != nil {
		return "", fmt.Errorf("encode analysis: %w", err)
	}
	settings, err := json.Marshal(a.Spec)
	if err != nil {
		return "", fmt.Errorf("encode settings of analysis: %w", err)
	}
	sums := []armMoments{}
	for i := range a.Metrics {
		m := &a.Metrics[i]
		for _, arm := range m.Arms {
			sums = append(sums, armMoments{Metric: m.Key, Variant: arm.Variant, Columns: m.Columns, MomentsReading: arm.Moments})
		}
	}
	moments, err := json.Marshal(sums)
	if err != nil {
		return "", fmt.Errorf("encode moments of analysis: %w", err)
	}
	queries := make(map[string]string, len(a.Queries))
	for _, q := range a.Queries {
		queries[q.Name] = q.SQL
	}
	hash := sha256.Sum256(results)
	id := "a" + hex.EncodeToString(hash[:13])
	err = s.insert(ctx, "analysis_snapshots", id, []column{
		{"analysis_id", []string{id}},
		{"experiment", []string{a.Spec.Experiment}},
		{"at", []int64{a.At}},
		{"since", []int64{a.Since}},
		{"playbook", []string{a.Spec.Playbook}},
		{"state", []string{string(a.State)}},
		{"verdict", []string{string(a.Verdict.Code)}},
		{"headline", []string{a.Verdict.Headline}},
		{"settings", []string{string(settings)}},
		{"queries", []map[string]string{queries}},
		{"moments", []string{string(moments)}},
		{"results", []string{string(results)}},
	})
	return id, translate(err, s.addr, "publish analysis of "+schema.Clean(a.Spec.Experiment))
}

// Published lists the published readings of an experiment, the newest first; of an empty key those of all.
func (s *Store) Published(ctx context.Context, key string) (list []Snapshot, err error) {
	err = (&query{store: s}).each(ctx, func(rows driver.Rows) error {
		var p Snapshot
		err := rows.Scan(&p.ID, &p.Experiment, &p.At, &p.PublishedAt, &p.Playbook, &p.Verdict, &p.Headline)
		list = append(list, p)
		return err
	}, `SELECT analysis_id, experiment, at, published_at, playbook, verdict, headline FROM analysis_snapshots_unique
		WHERE experiment = ? OR ? = '' ORDER BY at DESC, published_at DESC, analysis_id`, key, key)
	return list, translate(err, s.addr, "list published analyses")
}

// ErrNoSnapshot is returned where no reading of that id was published.
var ErrNoSnapshot = errors.New("no such published analysis")

// Snapshot returns a published reading as it was. ErrNoSnapshot where there is none of that id.
func (s *Store) Snapshot(ctx context.Context, id string) (*experiment.Analysis, error) {
	var results string
	err := (&query{store: s}).each(ctx, func(rows driver.Rows) error { return rows.Scan(&results) },
		"SELECT results FROM analysis_snapshots_unique WHERE analysis_id = ?", id)
	if err != nil {
		return nil, translate(err, s.addr, "read published analysis "+schema.Clean(id))
	}
	if results == "" {
		return nil, fmt.Errorf("%w: %s", ErrNoSnapshot, schema.Clean(id))
	}
	var a experiment.Analysis
	if err := json.Unmarshal([]byte(results), &a); err != nil {
		return nil, fmt.Errorf("decode published analysis %s: %w", schema.Clean(id), err)
	}
	return &a, nil
}
