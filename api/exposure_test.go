package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// headlineBook has one experiment that a journey's step names, and one that is met by its flag alone.
const headlineBook = `
name: flags
events: {signed_up: {}}
experiments:
  checklist_style: {variants: {control: 0.5, guided: 0.5}}
  headline: {variants: {control: 0.5, bold: 0.5}}
actions: {hello: {}}
journeys:
  onboarding:
    enter: {on: signed_up}
    steps:
      - {experiment: checklist_style, variants: {control: [], guided: [{action: hello}]}}
`

func headline(t *testing.T, extra string) *playbook.Playbook {
	t.Helper()
	bundle := playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": headlineBook + extra}}
	book, err := playbook.Compile(bundle)
	require.NoError(t, err)
	return book
}

// gallery is a door with flags of experiments, and the stream they are recorded in.
type gallery struct {
	*door

	mirror    *api.Mirror
	exposures *api.Exposures
	dropped   atomic.Int64
}

func newGallery(t *testing.T, book *playbook.Playbook, users ...schema.Profile) *gallery {
	t.Helper()
	g := &gallery{}
	g.door = openDoor(t)
	makeStream(t, g.js)
	_, err := g.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: schema.OutcomesStream, Subjects: []string{schema.OutcomesSubjects}, Duplicates: time.Minute})
	require.NoError(t, err)
	for _, user := range append([]schema.Profile{profileOf("ann", 3)}, users...) {
		publish(t, g.js, user)
	}
	g.mirror = api.NewMirror(g.js, quiet())
	run(t, g.mirror)
	ready(t, g.mirror)
	events, err := jetstream.New(g.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	g.exposures = api.NewExposures(g.js, func() *playbook.Playbook { return book }, quiet())
	g.exposures.Counted = func(result string) {
		if result == api.ExposureDropped {
			g.dropped.Add(1)
		}
	}
	g.handler = api.New(api.Config{WorkspaceKey: key(), Events: events, Exposures: g.exposures}, g.mirror, nil, quiet()).Handler()
	return g
}

// record runs the recorder until the test, or what is returned, ends it.
func (g *gallery) record(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.exposures.Run(ctx) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			<-done
		}
	}
	t.Cleanup(stop)
	return stop
}

// recorded are the exposures in the stream.
func (g *gallery) recorded(t *testing.T) []schema.Outcome {
	t.Helper()
	stream, err := g.js.Stream(t.Context(), schema.OutcomesStream)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	var all []schema.Outcome
	for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		var o schema.Outcome
		require.NoError(t, json.Unmarshal(message.Data, &o))
		all = append(all, o)
	}
	return all
}

func (g *gallery) become(t *testing.T, n int) []schema.Outcome {
	t.Helper()
	require.Eventually(t, func() bool { return len(g.recorded(t)) >= n }, patience, poll)
	return g.recorded(t)
}

func TestFlagExposure(t *testing.T) {
	t.Parallel()
	book := headline(t, "")
	g := newGallery(t, book)
	stop := g.record(t)
	began := time.Now()
	all := post(t, g.handler, flagsPath, asking("ann"))
	require.Contains(t, all.Body.String(), "variant.headline", "all flags have it, and are no exposure: a page fetches them before it shows anything")
	for range 5 {
		w := post(t, g.handler, flagsPath+"/variant.headline", asking("ann"))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		got := flagIn(t, w)
		require.Equal(t, book.Experiments["headline"].Assign(tokenOf("ann")).Variant, got.Value)
		require.Equal(t, "SPLIT", got.Reason)
	}
	require.Equal(t, "guided", flagIn(t, post(t, g.handler, flagsPath+"/variant.checklist_style", asking("ann"))).Value)
	require.Equal(t, http.StatusNotFound, post(t, g.handler, flagsPath+"/variant.headline", asking("nobody")).Code, "asking makes nobody")
	stop() // which sends what waits
	outcomes := g.recorded(t)
	require.Len(t, outcomes, 1, "once, and nothing of the experiment that the journey has on record")
	o := outcomes[0]
	require.Equal(t, schema.ExposureRecorded, o.Kind)
	require.Equal(t, tokenOf("ann"), o.UserToken)
	require.Equal(t, "headline", o.Experiment)
	require.Equal(t, journey.FlagEvaluated, o.Reason)
	require.Equal(t, book.Hash, o.Playbook)
	require.WithinRange(t, time.UnixMilli(o.At), began.Truncate(time.Millisecond), time.Now())
	require.GreaterOrEqual(t, o.RecordedAt, o.At)
	var details struct {
		Segments []string           `json:"segments"`
		Seed     string             `json:"seed"`
		Weights  map[string]float64 `json:"weights"`
		Variants []string           `json:"variants"`
		Hash     int                `json:"hash_version"`
		Coverage float64            `json:"coverage"`
	}
	require.NoError(t, json.Unmarshal(o.Details, &details))
	require.Equal(t, []string{"engaged_newcomer"}, details.Segments)
	require.Equal(t, "headline", details.Seed)
	require.Equal(t, map[string]float64{"control": 0.5, "bold": 0.5}, details.Weights)
	require.Equal(t, 2, details.Hash)
	require.InDelta(t, 1, details.Coverage, 0)

	// Another process knows nothing of the first, and says the same.
	again := newGallery(t, book)
	post(t, again.handler, flagsPath+"/variant.headline", asking("ann"))
	again.record(t)
	other := again.become(t, 1)[0]
	require.Equal(t, o.OutcomeID, other.OutcomeID)
	require.Equal(t, o.Variant, other.Variant)
}

// TestFlagExposureViewed: a page says what it has shown. What the user would not have been shown is no exposure.
func TestFlagExposureViewed(t *testing.T) {
	t.Parallel()
	book := headline(t, "")
	g := newGallery(t, book)
	g.record(t)
	variant := book.Experiments["headline"].Assign(tokenOf("ann")).Variant
	wrong := map[string]string{"control": "bold", "bold": "control"}[variant]
	for _, call := range []string{
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experiment_id":"headline","variation_id":"` + wrong + `"}}`,
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experiment_id":"checklist_style","variation_id":"guided"}}`,
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experiment_id":"headline"}}`,
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experiment_id":7,"variation_id":[]}}`,
		`{"userId":"nobody","event":"Experiment Viewed","properties":{"experiment_id":"headline","variation_id":"` + variant + `"}}`,
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experiment_id":"headline","variation_id":"` + variant + `"}}`,
		`{"userId":"ann","event":"Experiment Viewed","properties":{"experimentId":"headline","variationId":"` + variant + `"}}`,
	} {
		require.Equal(t, http.StatusOK, post(t, g.handler, "/v1/track", call).Code, call)
	}
	outcomes := g.become(t, 1)
	require.Len(t, outcomes, 1)
	require.Equal(t, variant, outcomes[0].Variant)
	require.Len(t, g.stored(t), 7, "all of them are events like any other")
}

// TestFlagExposureOutside: whoever is outside the experiment, or held out of everything, has no flag and no exposure.
func TestFlagExposureOutside(t *testing.T) {
	t.Parallel()
	var users []schema.Profile
	for i := range 40 {
		users = append(users, profileOf("user "+strconv.Itoa(i), 1))
	}
	book := headline(t, "holdout: {share: 0.5}\n")
	g := newGallery(t, book, users...)
	g.record(t)
	shown := 0
	for i := range users {
		id := "user " + strconv.Itoa(i)
		w := post(t, g.handler, flagsPath+"/variant.headline", asking(id))
		if book.Holdout.Assign(tokenOf(id)).Variant == playbook.HeldOut {
			require.Equal(t, http.StatusNotFound, w.Code)
			continue
		}
		require.Equal(t, http.StatusOK, w.Code)
		shown++
	}
	require.Greater(t, shown, 5)
	require.Less(t, shown, 35)
	require.Len(t, g.become(t, shown), shown)
}

// TestFlagExposureNeverBlocks: while the stream is away flags are answered, and what waits is bounded.
func TestFlagExposureNeverBlocks(t *testing.T) {
	t.Parallel()
	var users []schema.Profile
	for i := range 300 {
		users = append(users, profileOf("user "+strconv.Itoa(i), 1))
	}
	book := headline(t, "")
	g := newGallery(t, book, users...)
	g.exposures.Narrow(100)
	g.broker.Stop()
	g.record(t)
	for i := range users {
		began := time.Now()
		require.Equal(t, http.StatusOK, post(t, g.handler, flagsPath+"/variant.headline", asking("user "+strconv.Itoa(i))).Code)
		require.Less(t, time.Since(began), time.Second)
	}
	require.Positive(t, g.dropped.Load())
	g.broker.Start(t)
	require.Eventually(t, g.js.Conn().IsConnected, patience, poll)
	kept := 300 - int(g.dropped.Load())
	g.become(t, kept)
	for i := range users { // who was dropped is recorded now, who was recorded is not again
		post(t, g.handler, flagsPath+"/variant.headline", asking("user "+strconv.Itoa(i)))
	}
	require.Eventually(t, func() bool {
		seen := make(map[string]bool)
		for _, o := range g.recorded(t) {
			seen[o.UserToken] = true
		}
		for i := range users {
			post(t, g.handler, flagsPath+"/variant.headline", asking("user "+strconv.Itoa(i)))
		}
		return len(seen) == len(users)
	}, 2*patience, poll)
	ids := make(map[string]bool)
	for _, o := range g.recorded(t) {
		require.False(t, ids[o.OutcomeID], "twice")
		ids[o.OutcomeID] = true
	}
}

// TestTrackBridge runs examples/web/onramp-bridge.js with the web SDK.
func TestTrackBridge(t *testing.T) {
	t.Parallel()
	book := headline(t, "")
	g := newGallery(t, book)
	g.record(t)
	var failed atomic.Bool
	url, _ := g.open(t, func(n int) {
		if n == 2 && failed.CompareAndSwap(false, true) { // the first call of the bridge finds nobody
			panic(http.ErrAbortHandler)
		}
	})
	file, err := filepath.Abs(filepath.Join("..", "examples", "web", "onramp-bridge.js"))
	require.NoError(t, err)
	var saw struct {
		Values map[string]string `json:"values"`
		Sent   []int             `json:"sent"`
	}
	node(t, &saw, "bridge.mjs", url, "ann", file)
	variant := book.Experiments["headline"].Assign(tokenOf("ann")).Variant
	require.Equal(t, map[string]string{"byFlag": variant, "again": variant, "onJourney": "guided", "missing": "none", "stage": "onboarding/checklist"}, saw.Values)
	require.Equal(t, []int{200, 200, 200}, saw.Sent, "one that was seen twice is told once")
	names := make(map[string]int)
	for _, e := range g.stored(t) {
		require.Equal(t, "ann", e.UserID)
		names[e.EventName]++
		if e.EventName == "report_shared" {
			require.InDelta(t, 3.5, e.properties["value"], 0)
			require.Equal(t, "finance", e.properties["team"])
		}
	}
	require.Equal(t, map[string]int{"experiment_viewed": 2, "report_shared": 1}, names)
	outcomes := g.become(t, 1)
	require.Len(t, outcomes, 1, "the other has its exposure of the journey")
	require.Equal(t, "headline", outcomes[0].Experiment)
}
