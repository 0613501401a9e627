package outcome

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/schema"
)

// eventRow is a row of events, and of users.
type eventRow struct {
	id, name, token, userID string
	occurred, received      int64
	sequence                uint64
	lateness, source        string
	clamped                 bool
	properties, traits      string
	canary                  bool // it has no row
	trace                   schema.Trace
}

// tokensKept bounds how many user tokens a decoder remembers.
const tokensKept = 16_384

// eventDecoder makes rows of events. It remembers the tokens it made: users come again, and a token costs as much as half of the
// rest. For one goroutine.
type eventDecoder struct {
	key    []byte
	tokens map[string]string
}

func newEventDecoder(workspaceKey []byte) *eventDecoder {
	return &eventDecoder{key: workspaceKey, tokens: make(map[string]string)}
}

func (x *eventDecoder) token(userID string) string {
	token, known := x.tokens[userID]
	if !known {
		if len(x.tokens) >= tokensKept {
			clear(x.tokens)
		}
		token = schema.UserToken(x.key, userID)
		x.tokens[userID] = token
	}
	return token
}

func (x *eventDecoder) decode(d delivery) (eventRow, error) {
	event, err := schema.Receive(d.msg.Data(), d.msg.Headers(), d.sequence, d.received)
	if err != nil {
		return eventRow{}, err
	}
	if event.Canary() {
		return eventRow{canary: true}, nil
	}
	source := strings.TrimPrefix(d.msg.Subject(), strings.TrimSuffix(schema.EventsSubjects, ">"))
	return eventRow{
		id:         event.ID,
		name:       event.EventName,
		token:      x.token(event.UserID),
		userID:     event.UserID,
		occurred:   event.Timing.OccurredAt.UnixMilli(),
		received:   event.ReceivedAt.UnixMilli(),
		sequence:   event.Sequence,
		lateness:   string(event.Lateness),
		source:     source,
		clamped:    event.Clamped,
		properties: string(event.Properties),
		traits:     string(event.Traits),
		trace:      event.Trace,
	}, nil
}

// insertEvents writes the events of a batch, then their users: an event without its user can be mended by the next event
// of the user, the reverse would name a user who did nothing. A batch of canaries alone is an insert without rows: the server
// answers it as it would answer one with rows, and stores nothing.
func (s *Store) insertEvents(ctx context.Context, token string, rows []*eventRow) error {
	if slices.ContainsFunc(rows, func(r *eventRow) bool { return r.canary }) {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r *eventRow) bool { return r.canary })
	}
	err := s.insert(ctx, "events", token, []column{
		{"event_id", pick(rows, func(r *eventRow) string { return r.id })},
		{"event_name", pick(rows, func(r *eventRow) string { return r.name })},
		{"user_token", pick(rows, func(r *eventRow) string { return r.token })},
		{"occurred_at", pick(rows, func(r *eventRow) int64 { return r.occurred })},
		{"received_at", pick(rows, func(r *eventRow) int64 { return r.received })},
		{"sequence", pick(rows, func(r *eventRow) uint64 { return r.sequence })},
		{"lateness", pick(rows, func(r *eventRow) string { return r.lateness })},
		{"clamped", pick(rows, func(r *eventRow) bool { return r.clamped })},
		{"source", pick(rows, func(r *eventRow) string { return r.source })},
		{"properties", pick(rows, func(r *eventRow) string { return r.properties })},
		{"traits", pick(rows, func(r *eventRow) string { return r.traits })},
		{"trace_id", pick(rows, func(r *eventRow) string { return r.trace.ID() })},
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	users := usersOf(rows)
	return s.insert(ctx, "users", token, []column{
		{"user_token", pick(users, func(r *eventRow) string { return r.token })},
		{"user_id", pick(users, func(r *eventRow) string { return r.userID })},
		{"first_seen", pick(users, func(r *eventRow) int64 { return r.occurred })},
	})
}

// usersOf returns the earliest row of each user, in a stable order.
func usersOf(rows []*eventRow) []*eventRow {
	place := make(map[string]int)
	var users []*eventRow
	for _, r := range rows {
		i, ok := place[r.token]
		switch {
		case !ok:
			place[r.token] = len(users)
			users = append(users, r)
		case r.occurred < users[i].occurred:
			users[i] = r
		}
	}
	return users
}

// pick makes a column out of rows.
func pick[R, V any](rows []R, value func(R) V) []V {
	values := make([]V, len(rows))
	for i, r := range rows {
		values[i] = value(r)
	}
	return values
}

// latestMilli is the last millisecond a DateTime64(3) holds without being bent: 2262-04-11, also the end of a time.Time in
// nanoseconds. ClickHouse clamps or invents what lies outside.
var latestMilli = time.Unix(0, 1<<63-1).UnixMilli() //nolint:gochecknoglobals // a constant but for Go having no constant calls
