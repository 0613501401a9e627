package outcome_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/durable"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

func TestEventsBecomeRows(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	publishEvent(t, js, "billing", schema.Event{
		EventID: "e1", EventName: "plan_chosen", UserID: "Ada Lovelace <ada>", OccurredAt: now.Add(-time.Hour),
		Properties: []byte(`{"price": 9.90, "big": 12345678901234567890}`), Traits: []byte(`{"plan":"pro"}`),
	})
	publishEvent(t, js, "web", schema.Event{EventName: "signed_up", UserID: "bob", Backfill: true}, jetstream.WithMsgID("m-7"))
	third := publishEvent(t, js, "web", schema.Event{EventName: "signed_up", UserID: "bob", OccurredAt: now.Add(time.Hour)})
	_, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()

	ada, bob := schema.UserToken(workspaceKey, "Ada Lovelace <ada>"), schema.UserToken(workspaceKey, "bob")
	require.ElementsMatch(t, []string{
		fmt.Sprintf(`('e1','plan_chosen','%s','late',false,'billing','{"price":9.90,"big":12345678901234567890}','{"plan":"pro"}')`, ada),
		fmt.Sprintf(`('m-7','signed_up','%s','historic',false,'web','','')`, bob),
		fmt.Sprintf(`('seq-%d','signed_up','%s','on_time',true,'web','','')`, third, bob),
	}, rowsOf(t, store, "SELECT event_id, event_name, user_token, lateness, clamped, source, properties, traits FROM events_unique"))
	require.Equal(t, now.Add(-time.Hour), value[time.Time](t, store, "SELECT occurred_at FROM events_unique WHERE event_id = 'e1'").UTC())
	require.Equal(t, "Ada Lovelace <ada>", value[string](t, store, "SELECT user_id FROM users_unique WHERE user_token = ?", ada))
	require.Equal(t, uint64(2), value[uint64](t, store, "SELECT count() FROM users_unique"))
	require.Zero(t, value[uint64](t, store, "SELECT count() FROM events WHERE has([user_token, event_id, properties, traits], 'bob')"))
}

// TestCanaryHasNoRow: a canary reaches ClickHouse as every event does, alone and among others, and leaves nothing there.
func TestCanaryHasNoRow(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	canary := func() { publishEvent(t, js, "web", schema.Event{EventName: schema.CanaryEvent, UserID: "nobody"}) }
	canary()
	var inserts atomic.Int64
	sink, stop := runSink(t, js, store, outcome.SinkConfig{Meters: outcome.Meters{Insert: func(string, float64) { inserts.Add(1) }}})
	settled(t, js)
	require.EqualValues(t, 1, inserts.Load(), "ClickHouse was asked")
	require.EqualValues(t, 1, sink.Stats().Archive.Skipped)
	require.Zero(t, sink.Stats().Archive.Rows)
	stop()
	canary()
	publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: "signed_up", UserID: "ada"})
	canary()
	sink, stop = runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()
	require.EqualValues(t, 1, sink.Stats().Archive.Rows)
	require.EqualValues(t, 2, sink.Stats().Archive.Skipped)
	require.Equal(t, []string{"('e1')"}, rowsOf(t, store, "SELECT event_id FROM events"))
	require.Equal(t, []string{"('ada')"}, rowsOf(t, store, "SELECT user_id FROM users"))
}

// TestUsersAreStoredOnce: a user who comes again costs no insert, unless an earlier event is found, or the row may have been removed since.
func TestUsersAreStoredOnce(t *testing.T) {
	t.Parallel()
	store, now := openStore(t), time.Now()
	write := outcome.EventWriter(store, func() time.Time { return now })
	stored := func(id string, second int64, users ...string) []string {
		events := make([]outcome.ArchivedEvent, len(users))
		for i, user := range users {
			events[i] = outcome.ArchivedEvent{ID: id + user, Name: "clicked", Token: user, OccurredAt: second * 1000, Sequence: 1}
		}
		require.NoError(t, store.Conn().Exec(t.Context(), "TRUNCATE TABLE users"))
		require.NoError(t, write(t.Context(), id, events))
		return rowsOf(t, store, "SELECT user_id, toUnixTimestamp(first_seen) FROM users ORDER BY user_token")
	}
	require.Equal(t, []string{"('id of ada',20)"}, stored("e1", 20, "ada"))
	require.Empty(t, stored("e2", 30, "ada"))
	require.Equal(t, []string{"('id of bob',30)"}, stored("e3", 30, "ada", "bob"))
	require.Equal(t, []string{"('id of ada',10)"}, stored("e4", 10, "ada"))
	require.Empty(t, stored("e5", 15, "ada"))
	now = now.Add(time.Hour)
	require.Equal(t, []string{"('id of ada',40)", "('id of bob',40)"}, stored("e6", 40, "ada", "bob"))
	require.Equal(t, uint64(8), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// TestEventsInHandAreArchived as the sink archives those it reads: what it has stored counts once, what is no event has no row.
func TestEventsInHandAreArchived(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	require.NoError(t, store.Conn().Exec(t.Context(), "SYSTEM STOP MERGES events")) // they would collapse what is stored twice
	fill(t, js, 0, 50)
	publishRaw(t, js, schema.EventSubject("web"), []byte(`[]`))
	publishEvent(t, js, "web", schema.Event{EventName: schema.CanaryEvent, UserID: "nobody"})
	sink, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()
	before := value[uint64](t, store, "SELECT count() FROM events")
	consumer, err := js.OrderedConsumer(t.Context(), schema.EventsStream, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	batch, err := consumer.Fetch(52, jetstream.FetchMaxWait(testenv.Patience))
	require.NoError(t, err)
	var events []jetstream.Msg
	for msg := range batch.Messages() {
		events = append(events, msg)
	}
	require.Len(t, events, 52)
	require.NoError(t, sink.ArchiveInHand(t.Context(), events))
	require.Equal(t, before+50, value[uint64](t, store, "SELECT count() FROM events"), "they are stored again")
	require.Equal(t, uint64(50), value[uint64](t, store, "SELECT count() FROM events_unique"))

	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, sink.ArchiveInHand(over, events), context.Canceled)
	require.ErrorIs(t, sink.ArchiveInHand(t.Context(), []jetstream.Msg{stray{events[0]}}), jetstream.ErrNotJSMessage)
}

// stray is a message of no stream.
type stray struct{ jetstream.Msg }

func (stray) Metadata() (*jetstream.MsgMetadata, error) { return nil, jetstream.ErrNotJSMessage }

func TestFirstBodyOfAnEventIDWins(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	for i := range 3 {
		publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: fmt.Sprintf("body_%d", i), UserID: "ada"})
	}
	publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: "of_another_user", UserID: "bob"})
	_, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 1}) // one part for each: nothing collapses in the insert
	settled(t, js)
	stop()
	query := "SELECT event_name FROM events_unique ORDER BY event_name"
	require.Equal(t, []string{"('body_0')", "('of_another_user')"}, rowsOf(t, store, query))
	require.NoError(t, store.Conn().Exec(t.Context(), "OPTIMIZE TABLE events FINAL"))
	require.Equal(t, []string{"('body_0')", "('of_another_user')"}, rowsOf(t, store, query))
	require.Equal(t, uint64(2), value[uint64](t, store, "SELECT count() FROM events"))
}

func TestMessagesThatDoNotDecodeAreSkipped(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	for _, body := range []string{`{`, `[]`, `{"event_name":"x"}`, `{"event_name":"x","user_id":"undefined"}`, ``} {
		publishRaw(t, js, schema.EventSubject("web"), []byte(body))
	}
	publishEvent(t, js, "web", schema.Event{EventName: "too_far_ahead", UserID: "ada", OccurredAt: time.Now().Add(48 * time.Hour)})
	publishEvent(t, js, "web", schema.Event{EventName: "fine", UserID: "ada"})
	sink, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()
	require.Equal(t, []string{"('fine')"}, rowsOf(t, store, "SELECT event_name FROM events_unique"))
	stats := sink.Stats().Archive
	require.Equal(t, uint64(6), stats.Skipped)
	require.Equal(t, uint64(1), stats.Rows)
	require.Zero(t, stats.Refused)
	require.Zero(t, stats.Lag)
}

// The server itself refuses the rows here, by a constraint: they end in the dead letters and the rows beside them go in.
func TestPoisonRowIsIsolated(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	require.NoError(t, store.Conn().Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'"))
	var poison []uint64
	for i := range 100 {
		name := "fine"
		if i == 13 || i == 77 {
			name = "poison"
		}
		sequence := publishEvent(t, js, "web", schema.Event{EventID: fmt.Sprint("e", i), EventName: name, UserID: fmt.Sprint("user ", i)})
		if name == "poison" {
			poison = append(poison, sequence)
		}
	}
	publishRaw(t, js, schema.OutcomeSubject(schema.StepEntered), []byte(`{"kind":"step_entered","outcome_id":"o1","user_token":"not a token"}`))
	publishRaw(t, js, schema.OutcomeSubject(schema.StepEntered), []byte(`not json`))
	sink, stop := runSink(t, js, store, outcome.SinkConfig{})
	eventually(t, store, uint64(4), "SELECT count() FROM dead_letters_unique")
	settled(t, js)
	stop()

	require.Equal(t, uint64(98), value[uint64](t, store, "SELECT count() FROM events_unique"))
	require.Equal(t, uint64(98), value[uint64](t, store, "SELECT count() FROM users_unique"))
	require.Equal(t, uint64(2), sink.Stats().Archive.Refused)
	require.Equal(t, uint64(2), sink.Stats().Outcomes.Refused)
	require.Equal(t, []string{
		fmt.Sprintf("('ONRAMP_EVENTS',%d,'onramp.events.web','undeliverable',1,'ClickHouse refuses the row with code 469')", poison[0]),
		fmt.Sprintf("('ONRAMP_EVENTS',%d,'onramp.events.web','undeliverable',1,'ClickHouse refuses the row with code 469')", poison[1]),
	}, rowsOf(t, store, "SELECT stream, sequence, subject, reason, attempts, message FROM dead_letters_unique WHERE stream = 'ONRAMP_EVENTS' ORDER BY sequence"))
	require.Contains(t, value[string](t, store, "SELECT payload FROM dead_letters_unique WHERE sequence = ? AND stream = 'ONRAMP_EVENTS'", poison[0]), `"event_name":"poison"`)
	require.Equal(t, uint64(2), value[uint64](t, store, "SELECT count() FROM dead_letters_unique WHERE stream = 'ONRAMP_OUTCOMES'"))
}

func TestDeadLettersBecomeRows(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	payload := strings.Repeat("\x00\xff", 40<<10)
	header := map[string][]string{
		schema.HeaderStream: {schema.EventsStream}, schema.HeaderSequence: {"42"}, schema.HeaderSubject: {"onramp.events.web"},
		schema.HeaderReason: {"invalid_utf8"}, schema.HeaderMessage: {"broken"}, schema.HeaderAttempts: {"3"},
		schema.HeaderReceived: {"2026-11-24T09:00:00.5Z"}, schema.HeaderSHA256: {"abc"},
	}
	msg := natsMsg(schema.DeadLetterSubject(schema.ReasonInvalidUTF8), payload, header)
	for range 2 { // the second is a copy with another verdict: the first wins
		_, err := js.PublishMsg(t.Context(), msg)
		require.NoError(t, err)
		msg.Header.Set(schema.HeaderMessage, "another verdict")
	}
	bare := publishRaw(t, js, schema.DeadLetterSubject(schema.ReasonFuture), []byte("no headers"))
	publishRaw(t, js, strings.Replace(schema.AdvisorySubjects, "*.*", "ONRAMP_ACTIONS.mailer", 1),
		[]byte(`{"stream":"ONRAMP_ACTIONS","consumer":"mailer","stream_seq":7,"deliveries":5}`))
	_, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 1})
	settled(t, js)
	stop()
	require.Equal(t, []string{
		"('ONRAMP_ACTIONS',7,'','max_deliveries','consumer mailer was handed it 5 times and never acknowledged it',5,0)",
		fmt.Sprintf("('ONRAMP_DEADLETTERS',%d,'','future','',0,10)", bare),
		"('ONRAMP_EVENTS',42,'onramp.events.web','invalid_utf8','broken',3,65536)",
	}, rowsOf(t, store, "SELECT stream, sequence, subject, reason, message, attempts, length(payload) FROM dead_letters_unique ORDER BY stream"))
	require.Equal(t, "abc", value[string](t, store, "SELECT sha256 FROM dead_letters_unique WHERE sequence = 42"))
	require.Equal(t, "2026-11-24 09:00:00.500", value[string](t, store, "SELECT toString(received_at) FROM dead_letters_unique WHERE sequence = 42"))
}

// ClickHouse is killed again and again while events flow; every event must be there once, in the order of the stream, and
// nothing may have been delivered a second time, because what was held was kept alive.
func TestClickHouseKilledInMidStream(t *testing.T) { //nolint:paralleltest // kills the server the other tests share
	store, js := openStore(t), jetStream(t)
	sink, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 500, MaxWait: 5 * time.Millisecond, AckWait: 3 * time.Second})
	const total = 30_000
	for i := range total {
		raw := fmt.Appendf(nil, `{"event_id":"e%d","event_name":"clicked","user_id":"user %d"}`, i, i%97)
		_, err := js.PublishAsync(schema.EventSubject("load"), raw, jetstream.WithStallWait(time.Minute))
		require.NoError(t, err)
		if i%10_000 == 5_000 {
			clickHouse(t).KillClickHouse()
		}
	}
	<-js.PublishAsyncComplete()
	eventually(t, store, uint64(total), "SELECT count() FROM events_unique")
	settled(t, js)
	stop()
	require.Equal(t, uint64(total), value[uint64](t, store, "SELECT uniqExact(event_id) FROM events_unique"))
	require.Equal(t, uint64(97), value[uint64](t, store, "SELECT count() FROM users_unique"))
	stats := sink.Stats().Archive
	t.Logf("stats %+v; rows stored %d", stats, value[uint64](t, store, "SELECT count() FROM events"))
	require.NotZero(t, stats.Retries, "the kills must have hit")
	require.Zero(t, stats.Refused)
	require.Zero(t, stats.Lag)
	assert.Equal(t, uint64(total), stats.Rows, "nothing may be delivered twice")
}

// The server of the streams goes away and comes back at the same address: the sink goes on by itself.
func TestNATSRestartedInMidStream(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	js, restart := restartableJetStream(t)
	sink, stop := runSink(t, js, store, outcome.SinkConfig{MaxRows: 50, AckWait: 3 * time.Second})
	for i := range 300 {
		if i == 150 {
			require.Eventually(t, func() bool { return sink.Stats().Archive.Rows > 0 }, 30*time.Second, 10*time.Millisecond, "it is under way")
			restart()
		}
		publishEvent(t, js, "web", schema.Event{EventID: fmt.Sprint("e", i), EventName: "clicked", UserID: fmt.Sprint("user ", i%7)})
	}
	eventually(t, store, uint64(300), "SELECT count() FROM events_unique")
	settled(t, js)
	stop()
	require.Equal(t, uint64(300), value[uint64](t, store, "SELECT uniqExact(event_id) FROM events_unique"))
}

// TestFullInboxDropsNothing: NATS comes back while the inbox is full and the client library holds what one pull may bring. What is asked for
// anew finds room: what the library drops would come again only after AckWait.
func TestFullInboxDropsNothing(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	js, restart := restartableJetStream(t)
	var dropped atomic.Int64
	js.Conn().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrSlowConsumer) {
			dropped.Add(1)
		}
	})
	const total = 20_000
	for i := range total {
		_, err := js.PublishAsync(schema.EventSubject("load"), fmt.Appendf(nil, `{"event_id":"e%d","event_name":"clicked","user_id":"ada"}`, i), jetstream.WithStallWait(time.Minute))
		require.NoError(t, err)
	}
	<-js.PublishAsyncComplete()
	gate := make(chan struct{})
	sink, stop := runSink(t, js, store, outcome.SinkConfig{MaxBytes: 1 << 20, Meters: outcome.Meters{Insert: func(string, float64) { <-gate }}})
	handedOut := 0
	require.Eventually(t, func() bool { // until it has filled what there is to fill
		before := handedOut
		consumer, err := js.Consumer(t.Context(), schema.EventsStream, schema.ArchiveConsumer)
		if err != nil {
			return false
		}
		handedOut = consumer.CachedInfo().NumAckPending
		return before == handedOut && before > 3_000
	}, testenv.Patience, 100*time.Millisecond)
	restart()
	close(gate)
	settled(t, js)
	stop()
	require.Zero(t, dropped.Load())
	require.Equal(t, uint64(total), sink.Stats().Archive.Rows, "nothing was delivered twice")
	require.Equal(t, uint64(total), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// Of two processes one works; when it stops, the other goes on where it had come to, at once and without a row twice.
func TestTwoSinksTakeTurns(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	sinks, stops := [2]*outcome.Sink{}, [2]func(){}
	for i := range sinks {
		sinks[i], stops[i] = runSink(t, js, store, outcome.SinkConfig{MaxRows: 100, AckWait: time.Hour})
	}
	rows := func() (one, two uint64) { return sinks[0].Stats().Archive.Rows, sinks[1].Stats().Archive.Rows }
	fill(t, js, 0, 1500)
	settled(t, js)
	one, two := rows()
	require.EqualValues(t, 1500, one+two)
	require.Zero(t, min(one, two), "one had nothing to do")
	worked, waited := 0, 1
	if two > 0 {
		worked, waited = 1, 0
	}
	stops[worked]()
	fill(t, js, 1500, 1500)
	settled(t, js)
	stops[waited]()
	one, two = rows()
	require.Equal(t, []uint64{1500, 1500}, []uint64{one, two})
	require.Equal(t, uint64(3000), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// Two sinks that both believe to be alone take messages from each other all the time: each goes back to the floor again and again, and what one
// acknowledges is never what only the other has. So an acknowledgment by a process that slept and lost the lease costs no row.
func TestTwoSinksWithoutALeaseLoseNothing(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	for range 2 {
		runSink(t, js, store, outcome.SinkConfig{MaxRows: 100, MaxWait: time.Millisecond, AckWait: 3 * time.Second, MaxRetryWait: 10 * time.Millisecond, Exclusive: true})
	}
	const total = 20_000
	fill(t, js, 0, total)
	eventually(t, store, uint64(total), "SELECT count() FROM events_unique")
	settled(t, js)
}

// After a quiet time a row is in ClickHouse soon; where rows keep coming, an insert has those of a second: each costs ClickHouse a part, however few
// they are. What fills a batch waits for nothing.
func TestInsertsAreFewWhereRowsKeepComing(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	every := func(gap, from, to time.Duration) (times []time.Duration) {
		for at := from; at < to; at += gap {
			times = append(times, at)
		}
		return times
	}
	for name, test := range map[string]struct {
		arrivals []time.Duration
		want     []outcome.Carried
	}{
		"alone":         {[]time.Duration{0}, []outcome.Carried{{At: 250 * ms, Rows: 1}}},
		"far apart":     {[]time.Duration{0, 2000 * ms}, []outcome.Carried{{At: 250 * ms, Rows: 1}, {At: 2250 * ms, Rows: 1}}},
		"near together": {[]time.Duration{0, 300 * ms, 1300 * ms}, []outcome.Carried{{At: 250 * ms, Rows: 1}, {At: 1250 * ms, Rows: 1}, {At: 2250 * ms, Rows: 1}}},
		"a flow":        {every(100*ms, 10*ms, 3000*ms), []outcome.Carried{{At: 260 * ms, Rows: 3}, {At: 1260 * ms, Rows: 10}, {At: 2260 * ms, Rows: 10}, {At: 3260 * ms, Rows: 7}}},
		"a flood":       {every(10*ms, 0, 1000*ms), []outcome.Carried{{At: 190 * ms, Rows: 20}, {At: 390 * ms, Rows: 20}, {At: 590 * ms, Rows: 20}, {At: 790 * ms, Rows: 20}, {At: 990 * ms, Rows: 20}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				require.Equal(t, test.want, outcome.CarryAt(t.Context(), outcome.SinkConfig{MaxRows: 20}, test.arrivals...))
			})
		})
	}
}

// What a reader takes for the next message is the next one of the stream, not the next number of its consumer: another has made that anew, taken
// messages, and so come to that number too. What was removed from the stream is no gap.
func TestOnlyWhatFollowsInTheStreamIsTaken(t *testing.T) {
	t.Parallel()
	js := jetStream(t)
	sink := outcome.NewSink(js, new(outcome.Store), outcome.SinkConfig{WorkspaceKey: workspaceKey})
	require.NoError(t, sink.EnsureConsumers(t.Context()))
	fill(t, js, 0, 20)
	fetch := func(n int) (messages []jetstream.Msg) {
		consumer, err := js.Consumer(t.Context(), schema.EventsStream, schema.ArchiveConsumer)
		require.NoError(t, err)
		batch, err := consumer.Fetch(n)
		require.NoError(t, err)
		for m := range batch.Messages() {
			messages = append(messages, m)
		}
		require.Len(t, messages, n)
		return messages
	}
	anew := func(from uint64) {
		_, err := durable.Anew(t.Context(), js, schema.EventsStream, from-1, jetstream.ConsumerConfig{
			Durable: schema.ArchiveConsumer, AckPolicy: jetstream.AckAllPolicy,
		})
		require.NoError(t, err)
	}
	require.NoError(t, outcome.Follow(t.Context(), sink, 0, fetch(3)...))

	anew(11)
	fetch(3) // by another
	fourth := fetch(1)
	meta, err := fourth[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, jetstream.SequencePair{Consumer: 4, Stream: 14}, meta.Sequence)
	require.ErrorContains(t, outcome.Follow(t.Context(), sink, 3, fourth...), "do not follow on each other")

	stream, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	for sequence := uint64(4); sequence < 6; sequence++ {
		require.NoError(t, stream.DeleteMsg(t.Context(), sequence))
	}
	anew(4)
	require.NoError(t, outcome.Follow(t.Context(), sink, 3, fetch(2)...))
	anew(3)
	require.ErrorContains(t, outcome.Follow(t.Context(), sink, 3, fetch(1)...), "do not follow on each other", "it has that")
}

// Somebody takes messages of the sink's consumer and never acknowledges them. They are stored all the same, and long before the server would
// deliver them again.
func TestStolenMessagesAreReadAgain(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	sink := outcome.NewSink(js, store, outcome.SinkConfig{WorkspaceKey: workspaceKey, AckWait: time.Hour})
	require.NoError(t, sink.EnsureConsumers(t.Context()))
	fill(t, js, 0, 30)
	steal := func() {
		t.Helper()
		consumer, err := js.Consumer(t.Context(), schema.EventsStream, schema.ArchiveConsumer)
		require.NoError(t, err)
		batch, err := consumer.Fetch(10)
		require.NoError(t, err)
		stolen := 0
		for range batch.Messages() {
			stolen++
		}
		require.Equal(t, 10, stolen)
	}
	steal() // before it reads
	_, stop := runSink(t, js, store, outcome.SinkConfig{AckWait: time.Hour})
	settled(t, js)
	require.Equal(t, uint64(30), value[uint64](t, store, "SELECT count() FROM events_unique"))
	stop()

	_, stop = runSink(t, js, store, outcome.SinkConfig{AckWait: time.Hour, MaxRows: 10}) // asks for a few at a time
	defer stop()
	for n := 30; n < 900; n += 10 { // while it reads: some of these requests come before one of its own
		fill(t, js, n, 10)
		consumer, err := js.Consumer(t.Context(), schema.EventsStream, schema.ArchiveConsumer)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue // it is being made anew
		}
		require.NoError(t, err)
		batch, err := consumer.FetchNoWait(3)
		require.NoError(t, err)
		for range batch.Messages() { // taken, and never acknowledged
		}
	}
	settled(t, js)
	require.Equal(t, uint64(900), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// A request for messages that nobody answers is made again long before the client library would by default. One that is never made looks the same.
func TestSinkAsksAgain(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	fill(t, js, 0, 30)
	lost := new(atomic.Bool)
	conn, err := nats.Connect(js.Conn().ConnectedUrl(), nats.SetCustomDialer(testenv.Losing{Stream: schema.EventsStream, Lost: lost}))
	require.NoError(t, err)
	defer conn.Close()
	losing, err := jetstream.New(conn)
	require.NoError(t, err)
	_, stop := runSink(t, losing, store, outcome.SinkConfig{})
	defer stop()
	require.Eventually(t, func() bool { return value[uint64](t, store, "SELECT count() FROM events_unique") == 30 }, testenv.Patience, testenv.Poll)
	require.True(t, lost.Load())
}

// A consumer of the kind that sinks had before, which acknowledged each message: its successor begins at the first that was not, and reads what others
// hold of it again.
func TestConsumerOfTheFormerKind(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	former, err := js.CreateConsumer(t.Context(), schema.EventsStream, jetstream.ConsumerConfig{
		Durable: schema.ArchiveConsumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour,
	})
	require.NoError(t, err)
	fill(t, js, 0, 30)
	batch, err := former.Fetch(20)
	require.NoError(t, err)
	for msg := range batch.Messages() {
		if meta, err := msg.Metadata(); err == nil && meta.Sequence.Stream != 8 && meta.Sequence.Stream != 15 {
			require.NoError(t, msg.DoubleAck(t.Context()))
		}
	}
	_, stop := runSink(t, js, store, outcome.SinkConfig{})
	settled(t, js)
	stop()
	require.Equal(t, uint64(23), value[uint64](t, store, "SELECT count() FROM events_unique"))
	require.Equal(t, uint64(8), value[uint64](t, store, "SELECT min(sequence) FROM events_unique"), "where it had come to, not the beginning")
}

func TestSinkStopsAndHandsBack(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	for i := range 50 {
		publishEvent(t, js, "web", schema.Event{EventID: fmt.Sprint("e", i), EventName: "clicked", UserID: "ada"})
	}
	// A batch that is far from due is finished on the way out.
	sink, stop := runSink(t, js, store, outcome.SinkConfig{MaxWait: time.Minute, AckWait: time.Hour})
	require.Eventually(t, func() bool { return outcome.HeldEvents(sink) == 50 }, 10*time.Second, 10*time.Millisecond)
	stop()
	require.Equal(t, uint64(50), value[uint64](t, store, "SELECT count() FROM events_unique"))
	_, stop = runSink(t, js, store, outcome.SinkConfig{AckWait: time.Hour})
	settled(t, js) // in far less than AckWait: what was not stored was handed back
	stop()
	require.Equal(t, uint64(50), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// TestSinkWaitsForNATS: a sink that starts before NATS goes on when it comes, and ends when it is told to before that.
func TestSinkWaitsForNATS(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	broker := testenv.NewBroker(t)
	js := broker.Connect(t)
	for stream, subjects := range map[string]string{
		schema.EventsStream: schema.EventsSubjects, schema.OutcomesStream: schema.OutcomesSubjects, schema.DeadLettersStream: schema.DeadLettersSubjects,
	} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{subjects}})
		require.NoError(t, err)
	}
	publishEvent(t, js, "web", schema.Event{EventID: "e1", EventName: "clicked", UserID: "ada"})
	broker.Stop()
	waits := make(said, 100)
	cfg := outcome.SinkConfig{MaxRetryWait: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(waits, nil))}
	_, stop := runSink(t, js, store, cfg)
	waits.await(t, "wait for NATS")
	stop() // which wants no error
	_, stop = runSink(t, js, store, cfg)
	waits.await(t, "attempt=2")
	broker.Start(t)
	require.Eventually(t, js.Conn().IsConnected, testenv.Patience, testenv.Poll)
	settled(t, js)
	stop()
	require.Equal(t, uint64(1), value[uint64](t, store, "SELECT count() FROM events_unique"))
}

// said is what a logger has written, a line each.
type said chan string

func (s said) Write(line []byte) (int, error) {
	select {
	case s <- string(line):
	default: // nobody reads any more
	}
	return len(line), nil
}

func (s said) await(t *testing.T, words string) {
	t.Helper()
	late := time.After(testenv.Patience)
	for {
		select {
		case line := <-s:
			if strings.Contains(line, words) {
				return
			}
		case <-late:
			require.Fail(t, "never said: "+words)
		}
	}
}

func TestRunRefusesWhatWaitingCannotMend(t *testing.T) {
	t.Parallel()
	store, js := openStore(t), jetStream(t)
	err := outcome.NewSink(js, store, outcome.SinkConfig{MaxRows: -1, AckWait: time.Second}).Run(t.Context())
	require.Equal(t, schema.CodeInvalid, schema.CodeOf(err))
	for _, want := range []string{"workspace key", "max rows", "ack wait"} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, js.DeleteStream(t.Context(), schema.DeadLettersStream))
	err = outcome.NewSink(js, store, outcome.SinkConfig{WorkspaceKey: workspaceKey}).Run(t.Context())
	require.Equal(t, schema.CodeUnavailable, schema.CodeOf(err))
	require.ErrorContains(t, err, schema.DeadLettersStream)

	require.NoError(t, js.DeleteConsumer(t.Context(), schema.OutcomesStream, schema.OutcomesConsumer))
	_, err = js.CreateOrUpdateConsumer(t.Context(), schema.OutcomesStream, jetstream.ConsumerConfig{Durable: schema.OutcomesConsumer, AckPolicy: jetstream.AckNonePolicy})
	require.NoError(t, err)
	err = outcome.NewSink(js, store, outcome.SinkConfig{WorkspaceKey: workspaceKey}).EnsureConsumers(t.Context())
	require.Equal(t, schema.CodeConflict, schema.CodeOf(err))
}
