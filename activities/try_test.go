package activities_test

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.temporal.io/sdk/testsuite"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// trial is a Delivery with one receiver, and what a worker has in hand with it.
type trial struct {
	t        *testing.T
	js       jetstream.JetStream
	delivery *activities.Delivery
	webhook  *activities.Webhook
	requests func() []received
	later    atomic.Int64 // nanoseconds by which the clock is ahead

	mu       sync.Mutex
	attempts map[string]int // by result, as the meters were told
}

func newTrial(t *testing.T, cfg activities.WebhookConfig, answer http.HandlerFunc) *trial {
	t.Helper()
	tr := &trial{t: t, js: testenv.NewBroker(t).Connect(t), attempts: make(map[string]int)}
	streams(t, tr.js)
	cfg.URL, tr.requests = receiver(t, answer)
	cfg.Secret, cfg.AllowPrivate = secret, true
	var err error
	tr.webhook, err = activities.NewWebhook("crm", cfg)
	require.NoError(t, err)
	tr.delivery = activities.NewDelivery(tr.js, map[string]*activities.Webhook{"crm": tr.webhook}, func() time.Time { return clock.Add(time.Duration(tr.later.Load())) })
	tr.delivery.Meters.Action = func(_, result string) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.attempts[result]++
	}
	return tr
}

func (tr *trial) counted() map[string]int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	all := make(map[string]int)
	maps.Copy(all, tr.attempts)
	return all
}

// of is an action of its own.
func of(id string) schema.DeliverInput {
	in := input("crm")
	in.Request.ActionID, in.Delivered.ActionID, in.Delivered.OutcomeID = id, id, "delivered-"+id
	return in
}

// env is one for each goroutine: it keeps what its last activity left.
func (tr *trial) env() *testsuite.TestActivityEnvironment { return environment(tr.t, tr.delivery) }

func (tr *trial) try(id string) schema.TryResult {
	value, err := tr.env().ExecuteLocalActivity(tr.delivery.TryAction, of(id))
	var result schema.TryResult
	if assert.NoError(tr.t, err) {
		assert.NoError(tr.t, value.Get(&result))
	}
	return result
}

func (tr *trial) deliver(id string) error {
	_, err := tr.env().ExecuteActivity(tr.delivery.DeliverAction, of(id))
	return err
}

// quicken lets the receiver show that it is quick. A machine that was asleep meanwhile lets it show it again.
func (tr *trial) quicken() {
	tr.t.Helper()
	n := 0
	require.Eventually(tr.t, func() bool {
		n++
		return tr.deliver("before-"+string(rune('a'+n%26))) == nil && tr.webhook.Quick()
	}, 10*time.Second, time.Millisecond)
}

var later = schema.TryResult{Became: schema.TriedLater}

// TestTryWaitsForAQuickReceiver: three quick answers in a row are what it takes, from attempts of either kind; then an attempt within the task
// is one like any other, to the receiver, on record and for the meters. One slow answer or failure, and it begins anew.
func TestTryWaitsForAQuickReceiver(t *testing.T) {
	t.Parallel()
	var slow, away atomic.Bool
	tr := newTrial(t, activities.WebhookConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			select {
			case <-time.After(2 * activities.QuickAnswer):
			case <-r.Context().Done():
			}
		}
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	for _, id := range []string{"one", "two"} {
		require.Equal(t, later, tr.try(id))
		require.NoError(t, tr.deliver(id))
	}
	require.False(t, tr.webhook.Quick())
	require.Len(t, tr.requests(), 2, "no attempt was made within the task")
	require.Equal(t, map[string]int{activities.ResultDelivered: 2}, tr.counted(), "nor counted")
	tr.quicken()
	before, recorded := len(tr.requests()), len(messages(t, tr.js, schema.OutcomesStream))
	require.Equal(t, schema.TryResult{Became: schema.TriedDelivered}, tr.try("tried"))
	require.Len(t, tr.requests(), before+1)
	require.Equal(t, "tried", tr.requests()[before].header.Get("Webhook-Id"))
	require.Len(t, messages(t, tr.js, schema.OutcomesStream), recorded+1, "on record")
	require.Equal(t, before+1, tr.counted()[activities.ResultDelivered])

	slow.Store(true)
	require.NoError(t, tr.deliver("slow"))
	require.False(t, tr.webhook.Quick(), "it took the action, and its time")
	slow.Store(false)
	tr.quicken()
	away.Store(true)
	require.Error(t, tr.deliver("away"))
	require.False(t, tr.webhook.Quick())
	require.Equal(t, later, tr.try("away"))
}

// TestTryThatFails: what the workflow is to do then follows from the answer, and the receiver is known to be quick no more.
func TestTryThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   schema.TryResult
		result string
	}{
		{"503", status(503), schema.TryResult{Became: schema.TriedFailed, PauseMS: 1000, Message: "the receiver answered 503"}, activities.ResultRetried},
		{"503 in a minute", status(503, "Retry-After", "60"), schema.TryResult{Became: schema.TriedFailed, PauseMS: 60_000, Message: "the receiver answered 503"}, activities.ResultRetried},
		{"429 in seconds", status(429, "Retry-After", "7"), schema.TryResult{Became: schema.TriedFailed, PauseMS: 7000, Message: "the receiver answered 429"}, activities.ResultRetried},
		{"400", status(400), schema.TryResult{Became: schema.TriedRefused, Reason: schema.CodeInvalid, Message: "the receiver answered 400"}, activities.ResultRefused},
		{"410", status(410), schema.TryResult{Became: schema.TriedRefused, Reason: schema.CodeInvalid, Message: "the receiver answered 410"}, activities.ResultRefused},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, schema.TryResult{Became: schema.TriedFailed, PauseMS: 1000, Message: "post webhook tried"}, activities.ResultRetried},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var failing atomic.Bool
			tr := newTrial(t, activities.WebhookConfig{}, func(w http.ResponseWriter, r *http.Request) {
				if failing.Load() {
					c.answer(w, r)
				}
			})
			tr.quicken()
			failing.Store(true)
			got := tr.try("tried")
			require.Contains(t, got.Message, c.want.Message)
			got.Message = c.want.Message
			require.Equal(t, c.want, got)
			require.Equal(t, 1, tr.counted()[c.result])
			require.False(t, tr.webhook.Quick())
			require.Equal(t, later, tr.try("another"))
		})
	}
	t.Run("not recorded", func(t *testing.T) {
		t.Parallel()
		tr := newTrial(t, activities.WebhookConfig{}, status(200))
		tr.quicken()
		require.NoError(t, tr.js.DeleteStream(t.Context(), schema.OutcomesStream))
		require.Equal(t, schema.TriedFailed, tr.try("tried").Became, "it is posted again, under the same id, until it is on record")
	})
}

// blocking is a receiver that answers at once, or when it is let.
type blocking struct {
	blocks  atomic.Bool
	code    atomic.Int64
	waiting atomic.Int64
	release chan struct{}
}

func newBlocking() *blocking { return &blocking{release: make(chan struct{})} }

func (b *blocking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.blocks.Load() {
		b.waiting.Add(1)
		select {
		case <-b.release:
		case <-r.Context().Done():
		}
		if code := int(b.code.Load()); code != 0 {
			w.WriteHeader(code)
		}
	}
}

func (b *blocking) await(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool { return b.waiting.Load() == n }, 10*time.Second, time.Millisecond)
}

// hold sends actions on their way to a receiver that takes them when it is let; to be waited for then.
func (tr *trial) hold(b *blocking, ids ...string) *sync.WaitGroup {
	tr.t.Helper()
	b.blocks.Store(true)
	group := new(sync.WaitGroup)
	for _, id := range ids {
		group.Go(func() { assert.NoError(tr.t, tr.deliver(id)) })
	}
	b.await(tr.t, int64(len(ids)))
	return group
}

// TestTryThatTakesLonger: the attempt goes on, and the activity that comes for the action takes what it comes to: one request in all, counted
// and recorded once. Nobody else waits for the receiver meanwhile.
func TestTryThatTakesLonger(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"delivered": 200, "refused": 400, "failed": 503} {
		for _, early := range []bool{true, false} {
			when := "the activity waits"
			if !early {
				when = "it has ended"
			}
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				b := newBlocking()
				tr := newTrial(t, activities.WebhookConfig{}, b.ServeHTTP)
				tr.quicken()
				before := len(tr.requests())
				b.code.Store(int64(code))
				b.blocks.Store(true)
				require.Equal(t, later, tr.try("tried"))
				require.False(t, tr.webhook.Quick())
				require.Equal(t, later, tr.try("another"))
				require.Len(t, tr.requests(), before+1, "nobody else waits")
				done := make(chan error, 1)
				if early {
					go func() { done <- tr.deliver("tried") }()
					require.Eventually(t, func() bool { return activities.Waiting(tr.delivery, "tried") == 1 }, 10*time.Second, time.Millisecond)
					close(b.release)
				} else {
					close(b.release)
					require.Eventually(t, func() bool { return activities.Kept(tr.delivery) == 1 }, 10*time.Second, time.Millisecond)
					done <- tr.deliver("tried")
				}
				err := <-done
				switch code {
				case 200:
					require.NoError(t, err)
				case 400:
					failure(t, err, schema.CodeInvalid, false, 0)
				case 503:
					failure(t, err, schema.CodeUnavailable, true, 0)
				}
				require.Len(t, tr.requests(), before+1)
				total := 0
				for _, n := range tr.counted() {
					total += n
				}
				require.Equal(t, before+1, total, "counted once")
				require.Zero(t, activities.Kept(tr.delivery))
				b.blocks.Store(false)
				require.NoError(t, tr.deliver("tried"), "the next is an attempt of its own")
				require.Len(t, tr.requests(), before+2)
			})
		}
	}
}

// TestTryAgain: a task that is begun again while its attempt is under way waits for that one.
func TestTryAgain(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	tr := newTrial(t, activities.WebhookConfig{}, b.ServeHTTP)
	tr.quicken()
	before := len(tr.requests())
	b.blocks.Store(true)
	first := make(chan schema.TryResult, 1)
	go func() { first <- tr.try("tried") }()
	b.await(t, 1)
	require.Equal(t, later, tr.try("tried"))
	require.Equal(t, later, <-first)
	close(b.release)
	require.Eventually(t, func() bool { return activities.Kept(tr.delivery) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, schema.TryResult{Became: schema.TriedDelivered}, tr.try("tried"), "and takes what it came to")
	require.Len(t, tr.requests(), before+1)
}

// TestWhatNobodyComesForIsForgotten: after a minute, and the oldest where they are too many.
func TestWhatNobodyComesForIsForgotten(t *testing.T) {
	t.Parallel()
	b := newBlocking()
	tr := newTrial(t, activities.WebhookConfig{}, b.ServeHTTP)
	tr.quicken()
	before := len(tr.requests())
	b.blocks.Store(true)
	require.Equal(t, later, tr.try("tried"))
	b.blocks.Store(false)
	close(b.release)
	require.Eventually(t, func() bool { return activities.Kept(tr.delivery) == 1 }, 10*time.Second, time.Millisecond)
	tr.later.Store(int64(activities.KeptFor))
	require.NoError(t, tr.deliver("tried"))
	require.Len(t, tr.requests(), before+2, "an attempt of its own")
	require.Zero(t, activities.Kept(tr.delivery))

	kept, oldest := activities.KeepMany(activities.KeptMost+7, clock)
	require.Equal(t, activities.KeptMost, kept)
	require.Equal(t, "7", oldest)
}

// TestTryMakesNone: where the receiver has no place free, is left alone, has said that it is gone, or is not configured here, the action goes
// its regular way, and nothing is counted.
func TestTryMakesNone(t *testing.T) {
	t.Parallel()
	t.Run("no place is free", func(t *testing.T) {
		t.Parallel()
		b := newBlocking()
		tr := newTrial(t, activities.WebhookConfig{Concurrency: 2}, b.ServeHTTP)
		tr.quicken()
		group := tr.hold(b, "one", "two")
		require.True(t, tr.webhook.Quick())
		before := tr.counted()
		require.Equal(t, later, tr.try("tried"))
		require.Equal(t, before, tr.counted())
		close(b.release)
		group.Wait()
		require.Equal(t, 2, int(b.waiting.Load()))
	})
	t.Run("the receiver is left alone", func(t *testing.T) {
		t.Parallel()
		// Those on their way while the breaker opened can still show that the receiver is quick.
		b := newBlocking()
		var away atomic.Bool
		tr := newTrial(t, activities.WebhookConfig{Cooldown: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
			if away.Load() {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			b.ServeHTTP(w, r)
		})
		group := tr.hold(b, "one", "two", "three")
		away.Store(true)
		for range 5 {
			require.Error(t, tr.deliver("away"))
		}
		close(b.release)
		group.Wait()
		if !tr.webhook.Quick() {
			t.Log("the machine was asleep: the receiver was slow")
		}
		before := len(tr.requests())
		require.Equal(t, later, tr.try("tried"))
		require.Len(t, tr.requests(), before)
		require.ErrorContains(t, tr.deliver("tried"), "left alone")
	})
	t.Run("the receiver is gone", func(t *testing.T) {
		t.Parallel()
		b := newBlocking()
		var gone atomic.Bool
		tr := newTrial(t, activities.WebhookConfig{}, func(w http.ResponseWriter, r *http.Request) {
			if gone.Load() {
				w.WriteHeader(http.StatusGone)
				return
			}
			b.ServeHTTP(w, r)
		})
		group := tr.hold(b, "one", "two", "three")
		gone.Store(true)
		require.ErrorContains(t, tr.deliver("gone"), "410")
		close(b.release)
		group.Wait()
		before := tr.counted()
		require.Equal(t, later, tr.try("tried"))
		require.Equal(t, before, tr.counted())
		require.ErrorContains(t, tr.deliver("tried"), "the receiver is disabled")
	})
	t.Run("the receiver is not configured", func(t *testing.T) {
		t.Parallel()
		delivery := activities.NewDelivery(nil, nil, now)
		value, err := environment(t, delivery).ExecuteLocalActivity(delivery.TryAction, input("nobody"))
		require.NoError(t, err)
		var result schema.TryResult
		require.NoError(t, value.Get(&result))
		require.Equal(t, later, result)
	})
}

// TestTryThatPanics: nobody above the goroutine would catch it, so it is an error like another.
func TestTryThatPanics(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, activities.WebhookConfig{}, status(200))
	tr.quicken()
	tr.delivery.Meters.Deliver = func(bool, float64) { panic("at fault") }
	result := tr.try("tried")
	require.Equal(t, schema.TriedFailed, result.Became)
	require.Contains(t, result.Message, "panic: at fault")
	tr.delivery.Meters.Deliver = nil
	require.Equal(t, schema.TryResult{Became: schema.TriedDelivered}, tr.try("another"), "its place is free again")
}

// TestTraceOfATry: an attempt within the task is a span of its own in the trace of the event, and what is not made is none.
func TestTraceOfATry(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, activities.WebhookConfig{}, status(200))
	tracer, spans := recording(t)
	tr.delivery.Tracer = tracer
	in := of("tried")
	in.Delivered.Trace = firstTrace
	env := tr.env()
	_, err := env.ExecuteLocalActivity(tr.delivery.TryAction, in)
	require.NoError(t, err)
	require.Empty(t, spans.GetSpans())
	tr.quicken()
	spans.Reset()
	_, err = env.ExecuteLocalActivity(tr.delivery.TryAction, in)
	require.NoError(t, err)
	got := spans.GetSpans()
	require.Len(t, got, 1)
	require.Equal(t, "post action", got[0].Name)
	require.Equal(t, firstTrace.ID(), got[0].SpanContext.TraceID().String())
	require.Equal(t, codes.Unset, got[0].Status.Code)
	passed := tr.requests()
	require.Contains(t, passed[len(passed)-1].header.Get("Traceparent"), firstTrace.ID())
}
