package outcome

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// AnalyzeOptions says what an analysis looks at. The zero value is all that is known, without history.
type AnalyzeOptions struct {
	// Since leaves out users whose first exposure was before. Defaults to none.
	Since time.Time

	// Until leaves out everything that happened later. Defaults to the latest moment that the archive and the outcomes know.
	Until time.Time

	// Looks is how many earlier moments the primary metric is read at too, evenly from the first exposure on. Defaults to 0.
	Looks int

	// MaxMemory is how many bytes ClickHouse may take for one query before it writes parts of it to disk, about. Defaults to
	// 1 GiB.
	MaxMemory int64
}

// maxLooks bounds AnalyzeOptions.Looks: each look is counted in the same pass, in columns of its own.
const maxLooks = 60

// maxSegments is how many segments fit the mask of one user.
const maxSegments = 60

// Analyze reads an experiment of the playbook, by the playbook's metrics: users from their first exposure on, every event once,
// sums without rounding, so that the same events give the same figures to the last bit in whatever order and however often they
// came. playbook.HoldoutKey reads the playbook's own holdout. An experiment that the playbook does not have is no error: its
// analysis says so. Where ClickHouse is away, the error is CodeUnavailable.
func (s *Store) Analyze(ctx context.Context, book *playbook.Playbook, key string, opts AnalyzeOptions) (*experiment.Analysis, error) {
	a := newAnalysis(s, book, key, opts)
	if err := a.run(ctx); err != nil {
		return nil, translate(err, s.addr, "analyze experiment "+schema.Clean(key))
	}
	result := experiment.Analyze(a.spec, a.data)
	return &result, nil
}

// analysis is one call of Analyze.
type analysis struct {
	store    *Store
	book     *playbook.Playbook
	key      string
	opts     AnalyzeOptions
	spec     experiment.AnalysisSpec
	metrics  []*playbook.Metric
	since    int64 // Unix ms
	until    int64 // Unix ms
	data     experiment.AnalysisData
	unseen   map[string]string
	caps     map[string]experiment.Cap
	exposed  exposedSQL
	everyone bool // at least half of all users are exposed: filtering events by user would not pay
}

func newAnalysis(s *Store, book *playbook.Playbook, key string, opts AnalyzeOptions) *analysis {
	opts.Looks = min(max(opts.Looks, 0), maxLooks)
	if opts.MaxMemory <= 0 {
		opts.MaxMemory = 1 << 30
	}
	a := &analysis{store: s, book: book, key: key, opts: opts, unseen: make(map[string]string), caps: make(map[string]experiment.Cap)}
	a.spec, a.metrics = specOf(book, key)
	return a
}

func (a *analysis) run(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	if err := a.count(ctx); err != nil {
		return err
	}
	a.data.Unseen, a.data.Caps, a.data.At, a.data.Since = a.unseen, a.caps, a.until, a.since
	return nil
}

// prepare finds out who met the experiment, when and under which settings, and what the metrics need to know beforehand.
func (a *analysis) prepare(ctx context.Context) error {
	if err := a.bounds(ctx); err != nil {
		return err
	}
	a.exposed = exposedSQL{key: a.key, since: a.since, until: a.until, segments: a.spec.Segments}
	if err := a.one(ctx, "SELECT toBool(count() > 0) FROM outcomes WHERE kind = 'user_merged'", &a.exposed.linked); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{a.phases, a.removed, a.exclusions, a.seen, a.findCaps} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// latestMoment is the time of the latest event or outcome. Of two bodies with one id the first counts, merged or not: so the
// latest few are looked at again, each as what it is once it is merged.
const latestMoment = `SELECT greatest(
    (SELECT toUnixTimestamp64Milli(max(occurred_at)) FROM events FINAL
        WHERE (user_token, event_id) IN (SELECT user_token, event_id FROM events ORDER BY occurred_at DESC LIMIT 1000)),
    (SELECT toUnixTimestamp64Milli(max(at)) FROM outcomes FINAL))`

// bounds finds the moments between which exposures count.
func (a *analysis) bounds(ctx context.Context) error {
	if !a.opts.Since.IsZero() {
		a.since = max(0, a.opts.Since.UnixMilli())
	}
	if !a.opts.Until.IsZero() {
		a.until = max(0, a.opts.Until.UnixMilli())
		return nil
	}
	return a.one(ctx, latestMoment, &a.until)
}

// settings bound what one query takes; what does not fit goes to disk. Reading in the order of users lets a user's events pass
// by and be forgotten.
func (a *analysis) settings() string {
	return fmt.Sprintf("SETTINGS optimize_aggregation_in_order = 1, max_bytes_before_external_group_by = %d, max_bytes_before_external_sort = %d, join_use_nulls = 0",
		a.opts.MaxMemory, a.opts.MaxMemory)
}

func (a *analysis) one(ctx context.Context, sql string, into ...any) error {
	return a.store.conn.QueryRow(ctx, sql).Scan(into...)
}

func (a *analysis) each(ctx context.Context, sql string, scan func(driver.Rows) error) error {
	return (&query{store: a.store}).each(ctx, scan, sql)
}

// asked keeps a query as it can be asked again.
func (a *analysis) asked(name, sql string) {
	a.data.Queries = append(a.data.Queries, experiment.Query{Name: name, SQL: sql})
}

// phases reads under which seed and weights users came in.
func (a *analysis) phases(ctx context.Context) error {
	sql := a.exposed.phases()
	a.asked("phases", sql)
	var early int64
	err := a.each(ctx, sql+"\n"+a.settings(), func(rows driver.Rows) error {
		var p experiment.Phase
		var weights string
		var hash, users, clock int64
		if err := rows.Scan(&p.Seed, &hash, &p.Coverage, &weights, &p.Since, &p.Until, &users, &clock); err != nil {
			return err
		}
		p.HashVersion, p.Users, early = int(hash), users, early+clock
		if json.Unmarshal([]byte(weights), &p.Weights) != nil || p.Weights == nil {
			p.Weights = map[string]float64{} // recorded by something else: the ratio is tested against the playbook's weights
		}
		a.data.Phases = append(a.data.Phases, p)
		return nil
	})
	if err != nil {
		return err
	}
	for i, p := range a.data.Phases {
		if i == 0 || p.Since < a.data.Started {
			a.data.Started = p.Since
		}
	}
	if early > 0 {
		a.data.Notices = append(a.data.Notices, experiment.Notice{
			Code: "clock_steps", Users: early,
			Message: fmt.Sprintf("%d exposures were recorded more than a second before the moment they are dated to: a clock was set back, "+
				"and what these users did right after it may count as before", early),
		})
	}
	return nil
}

// removed tells of an experiment that the playbook does not have, and of one that may go by another name there.
func (a *analysis) removed(ctx context.Context) error {
	others, err := a.strangers(ctx)
	if err != nil {
		return err
	}
	if len(a.spec.Arms) > 0 {
		if len(a.data.Phases) == 0 && len(others) > 0 {
			a.data.Notices = append(a.data.Notices, experiment.Notice{
				Code: "renamed", Message: "nobody met this experiment, and users met one that the playbook does not have, with the same variants: " +
					strings.Join(others, ", ") + ". Under a new key it is a new experiment: users are spread anew",
			})
		}
		return nil
	}
	if len(a.data.Phases) == 0 {
		a.data.Removed = "the playbook has no experiment " + schema.Clean(a.key) + ", and nobody has met it"
		return nil
	}
	last := a.data.Phases[len(a.data.Phases)-1]
	weights := make([]string, 0, len(last.Weights))
	for variant := range last.Weights {
		weights = append(weights, variant)
	}
	slices.Sort(weights)
	for _, variant := range weights {
		a.spec.Arms = append(a.spec.Arms, experiment.ArmSpec{Variant: variant, Weight: last.Weights[variant]})
	}
	a.data.Removed = "the playbook no longer has the experiment: read it by the version that had it, as its metrics stand there"
	return nil
}

// strangers lists the experiments that users met, that the playbook does not have, and that have the same variants.
func (a *analysis) strangers(ctx context.Context) (list []string, err error) {
	if len(a.spec.Arms) == 0 || len(a.data.Phases) > 0 {
		return nil, nil
	}
	variants := make([]string, len(a.spec.Arms))
	for i, arm := range a.spec.Arms {
		variants[i] = arm.Variant
	}
	slices.Sort(variants)
	err = a.each(ctx, "SELECT toString(experiment), arraySort(groupUniqArray(toString(variant))) FROM outcomes_unique "+
		"WHERE kind = 'exposure_recorded' GROUP BY experiment ORDER BY experiment", func(rows driver.Rows) error {
		var key string
		var met []string
		err := rows.Scan(&key, &met)
		if a.book.Experiments[key] == nil && key != playbook.HoldoutKey && slices.Equal(met, variants) {
			list = append(list, key)
		}
		return err
	})
	return list, err
}

// exclusions counts the users who are in no arm, by reason.
func (a *analysis) exclusions(ctx context.Context) error {
	sql := a.exposed.exclusions(a.variants())
	a.asked("excluded", sql)
	return a.each(ctx, sql+"\n"+a.settings(), func(rows driver.Rows) error {
		var e experiment.Exclusion
		var users uint64
		if err := rows.Scan(&e.Reason, &users, &e.Sample); err != nil {
			return err
		}
		e.Users, e.Why = int64(users), exclusionWords()[e.Reason]
		a.data.Excluded = append(a.data.Excluded, e)
		return nil
	})
}

func exclusionWords() map[string]string {
	return map[string]string{
		"met_two_variants": "they met more than one variant under the same weights and seed, as happens where a user's state was lost: what they did belongs to no arm",
		"met_two_settings": "they met more than one variant because weights, seed or hash version changed while they were inside: what they did belongs to no arm",
		"unknown_variant":  "they met a variant that the playbook no longer has",
		"forced":           "their variant was forced: they test the flow",
	}
}

func (a *analysis) variants() []string {
	list := make([]string, len(a.spec.Arms))
	for i, arm := range a.spec.Arms {
		list[i] = arm.Variant
	}
	return list
}

// seen finds the metrics whose events never came.
func (a *analysis) seen(ctx context.Context) error {
	needed := make(map[string]bool)
	for _, m := range a.metrics {
		for _, event := range eventsOf(m) {
			needed[event] = true
		}
	}
	if len(needed) == 0 {
		return nil
	}
	came := make(map[string]bool)
	err := a.each(ctx, "SELECT DISTINCT toString(event_name) FROM events", func(rows driver.Rows) error {
		var name string
		err := rows.Scan(&name)
		came[name] = true
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range a.metrics {
		if missing := neverCame(m, came); missing != "" {
			a.unseen[m.Key] = missing
		}
	}
	var all uint64
	var exposed int64
	for _, p := range a.data.Phases {
		exposed += p.Users
	}
	err = a.one(ctx, "SELECT uniqExact(user_token) FROM users", &all)
	a.everyone = uint64(exposed)*2 >= all
	return err
}

// eventsOf lists the events that a metric looks at; none where it looks at all.
func eventsOf(m *playbook.Metric) []string {
	list := slices.Concat(m.Value.Events, m.Denominator.Events)
	for _, s := range m.Steps {
		list = append(list, s.Events...)
	}
	return list
}

// neverCame names what keeps a metric from ever having a value: of a choice of events all must be missing, of the steps of a
// funnel one is enough.
func neverCame(m *playbook.Metric, came map[string]bool) string {
	sets := [][]string{m.Value.Events, m.Denominator.Events}
	for _, s := range m.Steps {
		sets = append(sets, s.Events)
	}
	for _, set := range sets {
		if len(set) > 0 && !slices.ContainsFunc(set, func(event string) bool { return came[event] }) {
			return strings.Join(set, " or ")
		}
	}
	return ""
}
