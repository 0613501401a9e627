package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testenv.LeakOptions()...) }

const (
	poll     = testenv.Poll
	patience = testenv.Patience
)

// makeStream makes the stream as ingest.EnsureStreams does.
func makeStream(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardOld, MaxMsgsPerSubject: 1, AllowDirect: true,
	})
	require.NoError(t, err)
}

func key() []byte { return []byte("a workspace key for tests") }

func tokenOf(id string) string { return schema.UserToken(key(), id) }

func profileOf(id string, sequence uint64) schema.Profile {
	return schema.Profile{
		UserToken: tokenOf(id), Sequence: sequence, UpdatedAt: 1_790_000_000_000, Playbook: "4f2a9c1e7b6d5830", Stage: "onboarding/checklist",
		Segments: []schema.Membership{
			{Segment: "engaged_newcomer", In: true, Since: 1_790_000_000_000, Reason: `events("onboarding_completed").count() = 1 > 0; time_to("onboarding_completed") = 26h < 72h`},
			{Segment: "at_risk", Reason: `signed_up = true; inactive_for("72h") = false; has("onboarding_completed") = true`, Until: 1_790_100_000_000},
			{Segment: "power_user", Reason: `events("feature_used").within("7d").count() = 2 >= 5 is false`, Until: 1_790_200_000_000},
		},
		Variants: map[string]string{"checklist_style": "guided"},
		Journeys: []schema.JourneyStatus{{
			Journey: "onboarding", EnrollmentID: "eabcdefghijklmnopqrstuvwxyz", StartedAt: 1_789_900_000_000, StepKey: "checklist",
			Waiting: "project_created, or segments.engaged_newcomer", Deadline: 1_790_300_000_000,
		}},
		NextAt: 1_790_100_000_000, NextChange: "segment at_risk is asked again", LastEvent: "01JDEXAMPLEEVENT",
	}
}

func publish(t *testing.T, js jetstream.JetStream, profile schema.Profile) {
	t.Helper()
	body, err := json.Marshal(profile)
	require.NoError(t, err)
	publishRaw(t, js, profile.UserToken, body)
}

func publishRaw(t *testing.T, js jetstream.JetStream, token string, body []byte) {
	t.Helper()
	_, err := js.Publish(t.Context(), schema.ProfileSubject(token), body)
	require.NoError(t, err)
}

// run starts the mirror and returns a function that ends it and says how long that took.
func run(t *testing.T, m *api.Mirror) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	ended := false
	stop = func() time.Duration {
		if ended {
			return 0
		}
		ended = true
		began := time.Now()
		cancel()
		assert.NoError(t, <-done) //nolint:testifylint // also called from a clean-up, where the test must go on
		return time.Since(began)
	}
	t.Cleanup(func() { stop() })
	return stop
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func ready(t *testing.T, m *api.Mirror) {
	t.Helper()
	require.Eventually(t, m.Ready, patience, poll)
}

func sequenceOf(m *api.Mirror, id string) uint64 {
	profile, _ := m.Get(tokenOf(id))
	return profile.Sequence
}

func reaches(t *testing.T, m *api.Mirror, id string, sequence uint64) {
	t.Helper()
	require.Eventually(t, func() bool { return sequenceOf(m, id) == sequence }, patience, poll, "sequence of %s", id)
}

func TestMirror(t *testing.T) {
	t.Parallel()
	t.Run("ready at once where the stream is empty", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		m := api.NewMirror(js, quiet())
		require.False(t, m.Ready())
		run(t, m)
		ready(t, m)
		require.Zero(t, m.Len())
	})
	t.Run("reads in what is there, then every change", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		for i := range 500 {
			publish(t, js, profileOf(fmt.Sprint("user ", i), 1))
		}
		m := api.NewMirror(js, quiet())
		run(t, m)
		ready(t, m)
		require.Equal(t, 500, m.Len(), "ready means that all are there")
		got, ok := m.Get(tokenOf("user 7"))
		require.True(t, ok)
		require.Equal(t, profileOf("user 7", 1), got)
		publish(t, js, profileOf("user 7", 2))
		publish(t, js, profileOf("newcomer", 1))
		reaches(t, m, "newcomer", 1)
		require.EqualValues(t, 2, sequenceOf(m, "user 7"))
		require.Equal(t, 501, m.Len())
	})
	t.Run("an older sequence is ignored", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		m := api.NewMirror(js, quiet())
		run(t, m)
		publish(t, js, profileOf("ann", 9))
		reaches(t, m, "ann", 9)
		publish(t, js, profileOf("ann", 8))
		publish(t, js, profileOf("ben", 1))
		reaches(t, m, "ben", 1)
		require.EqualValues(t, 9, sequenceOf(m, "ann"))
	})
	t.Run("what cannot be read leaves the older profile", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		m := api.NewMirror(js, quiet())
		run(t, m)
		publish(t, js, profileOf("ann", 1))
		reaches(t, m, "ann", 1)
		publishRaw(t, js, tokenOf("ann"), []byte(`{"sequence":2`))
		publishRaw(t, js, tokenOf("ann"), []byte(`{"sequence":3,"user_token":"somebody else"}`))
		publishRaw(t, js, "not-a-token", []byte(`{"sequence":4}`))
		publish(t, js, profileOf("ben", 1))
		reaches(t, m, "ben", 1)
		require.EqualValues(t, 1, sequenceOf(m, "ann"))
		require.Equal(t, 2, m.Len())
	})
	t.Run("an empty message ends a user", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		m := api.NewMirror(js, quiet())
		run(t, m)
		publish(t, js, profileOf("ann", 5))
		reaches(t, m, "ann", 5)
		publishRaw(t, js, tokenOf("ann"), nil)
		require.Eventually(t, func() bool { return m.Len() == 0 }, patience, poll)
		publish(t, js, profileOf("ann", 1)) // who comes back begins anew
		reaches(t, m, "ann", 1)
	})
	t.Run("strangers are not there", func(t *testing.T) {
		t.Parallel()
		m := api.NewMirror(nil, quiet())
		for _, token := range []string{"", "u", tokenOf("nobody"), tokenOf("nobody") + "x"} {
			_, ok := m.Get(token)
			require.False(t, ok)
		}
	})
}

func TestMirrorOutages(t *testing.T) {
	t.Parallel()
	t.Run("waits for a stream that is not there yet", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		m := api.NewMirror(js, quiet())
		stop := run(t, m)
		makeStream(t, js)
		publish(t, js, profileOf("ann", 1))
		reaches(t, m, "ann", 1)
		require.Less(t, stop(), 2*time.Second)
	})
	t.Run("goes on after the server was away", func(t *testing.T) {
		t.Parallel()
		b := testenv.NewBroker(t)
		js := b.Connect(t)
		makeStream(t, js)
		publish(t, js, profileOf("ann", 1))
		m := api.NewMirror(js, quiet())
		run(t, m)
		ready(t, m)
		b.Stop()
		require.EqualValues(t, 1, sequenceOf(m, "ann"), "memory stays")
		require.True(t, m.Ready())
		b.Start(t)
		require.Eventually(t, func() bool {
			body, err := json.Marshal(profileOf("ann", 2))
			require.NoError(t, err)
			_, err = js.Publish(t.Context(), schema.ProfileSubject(tokenOf("ann")), body)
			return err == nil
		}, patience, poll)
		reaches(t, m, "ann", 2)
	})
	t.Run("reads in again where the stream was made anew", func(t *testing.T) {
		t.Parallel()
		js := testenv.NewBroker(t).Connect(t)
		makeStream(t, js)
		for i := range 20 {
			publish(t, js, profileOf("ann", uint64(i)))
		}
		m := api.NewMirror(js, quiet())
		run(t, m)
		reaches(t, m, "ann", 19)
		require.NoError(t, js.DeleteStream(t.Context(), schema.ProfilesStream))
		makeStream(t, js)
		publish(t, js, profileOf("ann", 20))
		reaches(t, m, "ann", 20)
	})
	t.Run("ends while the server is away", func(t *testing.T) {
		t.Parallel()
		b := testenv.NewBroker(t)
		js := b.Connect(t)
		makeStream(t, js)
		m := api.NewMirror(js, quiet())
		stop := run(t, m)
		ready(t, m)
		b.Stop()
		require.Less(t, stop(), 3*time.Second)
		b.Start(t) // for the clean-up, which stops it again
	})
}

// TestMirrorMemory states what a user costs: with a profile of three segments and one journey, about its JSON and 100 bytes.
//
//nolint:paralleltest // it measures the heap
func TestMirrorMemory(t *testing.T) {
	js := testenv.NewBroker(t).Connect(t)
	makeStream(t, js)
	const users = 5_000
	var pending []jetstream.PubAckFuture
	size := 0
	for i := range users {
		body, err := json.Marshal(profileOf(strconv.Itoa(i), 1))
		require.NoError(t, err)
		size = len(body)
		future, err := js.PublishAsync(schema.ProfileSubject(tokenOf(strconv.Itoa(i))), body)
		require.NoError(t, err)
		if pending = append(pending, future); len(pending) == 1000 {
			<-js.PublishAsyncComplete()
			pending = pending[:0]
		}
	}
	<-js.PublishAsyncComplete()
	before := heap()
	m := api.NewMirror(js, quiet())
	began := time.Now()
	stop := run(t, m)
	ready(t, m)
	took := time.Since(began)
	require.Equal(t, users, m.Len())
	stop()
	perUser := float64(heap()-before) / users
	t.Logf("%.0f bytes a user, of which %d JSON; %d users read in %s", perUser, size, users, took.Round(time.Millisecond))
	require.Less(t, perUser, float64(2*size+200))
	runtime.KeepAlive(m)
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func BenchmarkMirrorGet(b *testing.B) {
	js := testenv.NewBroker(b).Connect(b)
	_, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}})
	require.NoError(b, err)
	body, err := json.Marshal(profileOf("ann", 1))
	require.NoError(b, err)
	_, err = js.Publish(b.Context(), schema.ProfileSubject(tokenOf("ann")), body)
	require.NoError(b, err)
	m := api.NewMirror(js, quiet())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	require.Eventually(b, m.Ready, patience, poll)
	token := tokenOf("ann")
	for b.Loop() {
		if _, ok := m.Get(token); !ok {
			b.Fatal("not there")
		}
	}
	cancel()
	require.NoError(b, <-done)
}
